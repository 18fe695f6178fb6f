/** What the module exports: see each file. It allocates nothing and has no data of its own: the memory is tfjs'. */

export { carry } from '../../../../../shared/kernels/assembly/vector'
export { conv2d, conv2dFilterGradient, conv2dInputGradient, conv2dScratchBytes, geometry } from './conv2d'
export { depthwiseFilterGradient, depthwiseInputGradient } from './depthwise'
export { matmul, scratchBytes } from './matmul'
export { averagePoolGradient, maxPoolGradient } from './pool'
export { addScaled, addToRows, reluGradient, sumRows, tanh } from './vectors'
