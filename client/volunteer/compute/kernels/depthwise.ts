/** The gradients of depthwise convolutions, which tfjs' WASM backend lacks. */
import type { KernelConfig, KernelFunc, TensorInfo } from '@tensorflow/tfjs-core'
import { type ConvolutionAttributes, prepare } from './conv2d.ts'
import { heapOf } from './heap.ts'

const filterGradient: KernelConfig = {
  kernelName: 'DepthwiseConv2dNativeBackpropFilter',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { x, dy } = inputs as { x: TensorInfo; dy: TensorInfo }
    const attributes = attrs as unknown as ConvolutionAttributes
    const { info } = prepare(heap, x.shape, attributes.filterShape!, attributes, true)
    const gradient = heap.output(info.filterShape)
    heap.kernels.depthwiseFilterGradient(heap.address(x), heap.address(dy), heap.address(gradient))
    return gradient
  }) as KernelFunc,
}

const inputGradient: KernelConfig = {
  kernelName: 'DepthwiseConv2dNativeBackpropInput',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const heap = heapOf(backend)
    const { dy, filter } = inputs as { dy: TensorInfo; filter: TensorInfo }
    const attributes = attrs as unknown as ConvolutionAttributes
    const { info } = prepare(heap, attributes.inputShape!, filter.shape, attributes, true)
    const dx = heap.output(info.inShape)
    heap.kernels.depthwiseInputGradient(heap.address(dy), heap.address(filter), heap.address(dx))
    return dx
  }) as KernelFunc,
}

export const depthwiseKernels = [filterGradient, inputGradient]
