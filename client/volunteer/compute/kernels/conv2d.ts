/**
 * Two-dimensional convolutions for tfjs' WASM backend. It has no filter gradient at all and a naive input gradient;
 * its forward kernel is fast, but keeps a copy of each filter it meets and looks it up by tensor, of which training
 * makes a new one every step.
 */
import { backend_util, type KernelConfig, type KernelFunc, type TensorInfo } from '@tensorflow/tfjs-core'
import { activate } from './activation.ts'
import { type Heap, heapOf } from './heap.ts'

type Filter = [number, number, number, number]
export interface ConvolutionAttributes {
  strides: [number, number] | number
  pad: 'valid' | 'same' | number | backend_util.ExplicitPadding
  dilations?: [number, number] | number
  dataFormat: 'NHWC' | 'NCHW'
  dimRoundingMode?: 'floor' | 'round' | 'ceil'
  inputShape?: [number, number, number, number]
  filterShape?: Filter
  activation?: string
  leakyreluAlpha?: number
}

/** Sets the kernels' geometry; returns it as tfjs describes it, and enough scratch memory. */
export function prepare(
  heap: Heap,
  xShape: readonly number[],
  filterShape: readonly number[],
  attributes: ConvolutionAttributes,
  depthwise = false,
) {
  const { strides, pad, dilations = 1, dataFormat, dimRoundingMode } = attributes
  if (dataFormat !== undefined && dataFormat !== 'NHWC') throw new Error(`conv2d on WASM takes NHWC, not ${dataFormat}`)
  const info = backend_util.computeConv2DInfo(
    ...([xShape as Filter, filterShape as Filter, strides, dilations, pad, dimRoundingMode, depthwise] as const),
    'channelsLast',
  )
  heap.kernels.geometry(
    ...([info.batchSize, info.inHeight, info.inWidth, info.inChannels] as const),
    ...([info.outHeight, info.outWidth, info.outChannels] as const),
    ...([info.filterHeight, info.filterWidth, info.strideHeight, info.strideWidth] as const),
    ...([info.dilationHeight, info.dilationWidth, info.padInfo.top, info.padInfo.left] as const),
  )
  return { info, scratchBytes: heap.kernels.conv2dScratchBytes() }
}

function convolve(
  heap: Heap,
  x: TensorInfo,
  filter: TensorInfo,
  bias: TensorInfo | undefined,
  attributes: ConvolutionAttributes,
) {
  const { info, scratchBytes } = prepare(heap, x.shape, filter.shape, attributes)
  const y = heap.output(info.outShape)
  const scratch = heap.scratch(scratchBytes)
  heap.kernels.conv2d(
    ...([heap.address(x), heap.address(filter), bias ? heap.address(bias) : 0, heap.address(y), scratch] as const),
  )
  return y
}

const conv2d: KernelConfig = {
  kernelName: 'Conv2D',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) =>
    convolve(
      heapOf(backend),
      inputs.x!,
      inputs.filter!,
      undefined,
      attrs as unknown as ConvolutionAttributes,
    )) as KernelFunc,
}

const fusedConv2d: KernelConfig = {
  kernelName: 'FusedConv2D',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const { x, filter, bias, preluActivationWeights } = inputs
    const attributes = attrs as unknown as ConvolutionAttributes
    if (bias && bias.shape.length !== 1) throw new Error('FusedConv2D on WASM takes a bias of rank 1 only')
    const y = convolve(heapOf(backend), x!, filter!, bias, attributes)
    return activate(backend, y, attributes, preluActivationWeights)
  }) as KernelFunc,
}

const inputGradient: KernelConfig = {
  kernelName: 'Conv2DBackpropInput',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { dy, filter } = inputs as { dy: TensorInfo; filter: TensorInfo }
    const attributes = attrs as unknown as ConvolutionAttributes
    const { info, scratchBytes } = prepare(heap, attributes.inputShape!, filter.shape, attributes)
    const dx = heap.output(info.inShape)
    const scratch = heap.scratch(scratchBytes)
    heap.kernels.conv2dInputGradient(heap.address(dy), heap.address(filter), heap.address(dx), scratch)
    return dx
  }) as KernelFunc,
}

const filterGradient: KernelConfig = {
  kernelName: 'Conv2DBackpropFilter',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { x, dy } = inputs as { x: TensorInfo; dy: TensorInfo }
    const attributes = attrs as unknown as ConvolutionAttributes
    const { info, scratchBytes } = prepare(heap, x.shape, attributes.filterShape!, attributes)
    const gradient = heap.output(info.filterShape)
    const scratch = heap.scratch(scratchBytes)
    heap.kernels.conv2dFilterGradient(heap.address(x), heap.address(dy), heap.address(gradient), scratch)
    return gradient
  }) as KernelFunc,
}

export const conv2dKernels = [conv2d, fusedConv2d, inputGradient, filterGradient]
