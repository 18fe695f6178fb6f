/** Gives tfjs' WASM backend our kernels, in place of its own or where it has none, so that any model profits. */
import { getKernel, type KernelConfig, registerKernel, unregisterKernel } from '@tensorflow/tfjs-core'
import { conv2dKernels } from './conv2d.ts'
import { depthwiseKernels } from './depthwise.ts'
import { elementwiseKernels, registerReluGradient } from './elementwise.ts'
import { matmulKernels } from './matmul.ts'
import { poolKernels } from './pool.ts'
import { segmentKernels } from './segment.ts'

let registered = false

/** Registers them, once; every tensor they meet must be of a backend that `prepareHeap` was called for. */
export function registerKernels(): void {
  if (registered) return
  registered = true
  const kernels: KernelConfig[] = [
    ...matmulKernels,
    ...conv2dKernels,
    ...depthwiseKernels,
    ...poolKernels,
    ...segmentKernels,
    ...elementwiseKernels(),
  ]
  for (const kernel of kernels) {
    if (getKernel(kernel.kernelName, 'wasm')) unregisterKernel(kernel.kernelName, 'wasm')
    registerKernel(kernel)
  }
  registerReluGradient()
}
