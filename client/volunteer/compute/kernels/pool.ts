/** The gradient of max pooling for tfjs' WASM backend: its own searches all windows for every input. */
import { backend_util, type KernelConfig, type KernelFunc, type TensorInfo } from '@tensorflow/tfjs-core'
import { heapOf } from './heap.ts'

interface Attributes {
  filterSize: [number, number] | number
  strides: [number, number] | number
  pad: 'valid' | 'same' | number | backend_util.ExplicitPadding
  dimRoundingMode?: 'floor' | 'round' | 'ceil'
}

const maxPoolGradient: KernelConfig = {
  kernelName: 'MaxPoolGrad',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { dy, input } = inputs as { dy: TensorInfo; input: TensorInfo }
    const { filterSize, strides, pad, dimRoundingMode } = attrs as unknown as Attributes
    const shape = input.shape as [number, number, number, number]
    const info = backend_util.computePool2DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode)
    const dx = heap.output(input.shape)
    heap.kernels.maxPoolGradient(
      ...([heap.address(dx), heap.address(dy), heap.address(input)] as const),
      ...([info.batchSize, info.inHeight, info.inWidth, info.inChannels, info.outHeight, info.outWidth] as const),
      ...([info.filterHeight, info.filterWidth, info.strideHeight, info.strideWidth] as const),
      ...([info.dilationHeight, info.dilationWidth, info.padInfo.top, info.padInfo.left] as const),
    )
    return dx
  }) as KernelFunc,
}

export const poolKernels = [maxPoolGradient]
