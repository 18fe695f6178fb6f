/**
 * What surrounds the products of a dense or convolutional layer, for tfjs' WASM backend: adding a bias, its gradient
 * (a sum over all dimensions but the last), the rectifier's gradient, tanh, and clones that share their numbers. Each
 * kernel takes the case it is for and leaves all others to tfjs' own kernel of that name.
 */
import {
  engine,
  type GradConfig,
  getBackend,
  getGradient,
  getKernel,
  type KernelBackend,
  type KernelConfig,
  type KernelFunc,
  registerGradient,
  type Tensor,
  type TensorInfo,
  unregisterGradient,
  util,
} from '@tensorflow/tfjs-core'
import { heapOf } from './heap.ts'

/** tfjs' own kernel function, looked up before ours takes its place. */
function own(name: string): KernelFunc {
  const kernel = getKernel(name, 'wasm')
  if (!kernel) throw new Error(`invariant: tfjs' WASM backend has no kernel ${name}`)
  return kernel.kernelFunc
}

/** Whether `bias` is one row to be added to every row of `x`: [n] or [1, …, 1, n] against [..., n]. */
function isRow(x: TensorInfo, bias: TensorInfo): boolean {
  const n = x.shape.at(-1)
  return (
    x.dtype === 'float32' &&
    bias.dtype === 'float32' &&
    x.shape.length > 1 &&
    bias.shape.length <= x.shape.length &&
    bias.shape.at(-1) === n &&
    util.sizeFromShape(bias.shape) === n
  )
}

function add(): KernelConfig {
  const otherwise = own('Add')
  return {
    kernelName: 'Add',
    backendName: 'wasm',
    setupFunc: getKernel('Add', 'wasm')!.setupFunc,
    kernelFunc: ((args) => {
      const { a, b } = args.inputs as { a: TensorInfo; b: TensorInfo }
      if (!isRow(a, b)) return otherwise(args)
      const heap = heapOf(args.backend)
      const out = heap.output(a.shape)
      const n = a.shape.at(-1)!
      const rows = util.sizeFromShape(a.shape) / n
      heap.kernels.addToRows(heap.address(out), heap.address(a), heap.address(b), rows, n)
      return out
    }) as KernelFunc,
  }
}

function sum(): KernelConfig {
  const otherwise = own('Sum')
  return {
    kernelName: 'Sum',
    backendName: 'wasm',
    setupFunc: getKernel('Sum', 'wasm')!.setupFunc,
    kernelFunc: ((args) => {
      const { x } = args.inputs as { x: TensorInfo }
      const { axis, keepDims } = args.attrs as unknown as { axis: number | number[]; keepDims?: boolean }
      const axes = util.parseAxisParam(axis, x.shape).sort((a, b) => a - b)
      const rank = x.shape.length
      const leading = axes.length === rank - 1 && axes.every((dimension, i) => dimension === i)
      if (!leading || rank < 2 || x.dtype !== 'float32') return otherwise(args)
      const heap = heapOf(args.backend)
      const n = x.shape[rank - 1]
      const out = heap.output(keepDims ? [...axes.map(() => 1), n] : [n])
      heap.kernels.sumRows(heap.address(out), heap.address(x), util.sizeFromShape(x.shape) / n, n)
      return out
    }) as KernelFunc,
  }
}

/** tfjs' own copies; a reshape already shares, so nothing relies on the copy. */
const identity: KernelConfig = {
  kernelName: 'Identity',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend }) => {
    const { dataId, shape, dtype } = inputs.x!
    ;(backend as KernelBackend).incRef(dataId)
    return { dataId, shape, dtype }
  }) as KernelFunc,
}

const reluGradient: KernelConfig = {
  kernelName: 'ReluGradient',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend }) => {
    const heap = heapOf(backend)
    const { dy, x } = inputs as { dy: TensorInfo; x: TensorInfo }
    const out = heap.output(x.shape)
    heap.kernels.reluGradient(heap.address(out), heap.address(dy), heap.address(x), util.sizeFromShape(x.shape))
    return out
  }) as KernelFunc,
}

const tanh: KernelConfig = {
  kernelName: 'Tanh',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend }) => {
    const heap = heapOf(backend)
    const { x } = inputs as { x: TensorInfo }
    if (x.dtype !== 'float32') throw new Error('tanh on WASM takes float32 only')
    const out = heap.output(x.shape)
    heap.kernels.tanh(heap.address(out), heap.address(x), util.sizeFromShape(x.shape))
    return out
  }) as KernelFunc,
}

/** Made when first asked for: they stand on tfjs' own. */
export function elementwiseKernels(): KernelConfig[] {
  return [add(), sum(), identity, reluGradient, tanh]
}

/** Lets the gradient of relu, which tfjs has for all backends at once, use our kernel where that is there. */
export function registerReluGradient(): void {
  const composed = getGradient('Relu') as GradConfig | undefined
  if (!composed) throw new Error('invariant: tfjs has registered no gradients')
  unregisterGradient('Relu')
  registerGradient({
    ...composed,
    gradFunc: (dy, saved, attributes) =>
      getBackend() === 'wasm'
        ? { x: () => engine().runKernel('ReluGradient', { dy: dy as Tensor, x: saved[0] }) as Tensor }
        : composed.gradFunc(dy, saved, attributes),
  })
}
