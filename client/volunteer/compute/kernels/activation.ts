/** The activation at the end of a fused kernel, by the backend's own kernel of that name. */
import { getKernel, type TensorInfo } from '@tensorflow/tfjs-core'
import { heapOf } from './heap.ts'

const KERNELS: Record<string, string> = {
  relu: 'Relu',
  relu6: 'Relu6',
  elu: 'Elu',
  sigmoid: 'Sigmoid',
  prelu: 'Prelu',
  leakyrelu: 'LeakyRelu',
}

/** Applies an activation to a tensor that nobody else holds, and disposes that. */
export function activate(
  backend: unknown,
  x: TensorInfo,
  { activation = 'linear', leakyreluAlpha }: { activation?: string; leakyreluAlpha?: number },
  alpha?: TensorInfo,
): TensorInfo {
  if (activation === 'linear') return x
  const kernel = KERNELS[activation] && getKernel(KERNELS[activation], 'wasm')
  if (!kernel) throw new Error(`activation ${activation} is not known to fused kernels on WASM`)
  const y = kernel.kernelFunc({
    inputs: alpha ? { x, alpha } : { x },
    backend: backend as object,
    attrs: leakyreluAlpha === undefined ? {} : { alpha: leakyreluAlpha },
  }) as TensorInfo
  heapOf(backend).dispose(x)
  return y
}
