/** The gradients of pooling for tfjs' WASM backend: its own search all windows for every input. */
import { backend_util, type KernelConfig, type KernelFunc, type TensorInfo } from '@tensorflow/tfjs-core'
import { heapOf } from './heap.ts'

interface Attributes {
  filterSize: [number, number] | number
  strides: [number, number] | number
  pad: 'valid' | 'same' | number | backend_util.ExplicitPadding
  dimRoundingMode?: 'floor' | 'round' | 'ceil'
}

function geometryOf(input: TensorInfo, { filterSize, strides, pad, dimRoundingMode }: Attributes) {
  const shape = input.shape as [number, number, number, number]
  return backend_util.computePool2DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode)
}

const maxPoolGradient: KernelConfig = {
  kernelName: 'MaxPoolGrad',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { dy, input } = inputs as { dy: TensorInfo; input: TensorInfo }
    const info = geometryOf(input, attrs as unknown as Attributes)
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

const averagePoolGradient: KernelConfig = {
  kernelName: 'AvgPoolGrad',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { dy, input } = inputs as { dy: TensorInfo; input: TensorInfo }
    const info = geometryOf(input, attrs as unknown as Attributes)
    const dx = heap.output(input.shape)
    heap.kernels.averagePoolGradient(
      ...([heap.address(dx), heap.address(dy)] as const),
      ...([info.batchSize, info.inHeight, info.inWidth, info.inChannels, info.outHeight, info.outWidth] as const),
      ...([info.filterHeight, info.filterWidth, info.strideHeight, info.strideWidth] as const),
      ...([info.padInfo.top, info.padInfo.left] as const),
    )
    return dx
  }) as KernelFunc,
}

export const poolKernels = [maxPoolGradient, averagePoolGradient]
