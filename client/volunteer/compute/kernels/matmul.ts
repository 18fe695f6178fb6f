/** BatchMatMul and _FusedMatMul for tfjs' WASM backend: its own are naive loops wherever an operand is transposed. */
import { broadcast_util, type KernelConfig, type KernelFunc, type TensorInfo, util } from '@tensorflow/tfjs-core'
import { activate } from './activation.ts'
import { type Heap, heapOf } from './heap.ts'

interface Attributes {
  transposeA: boolean
  transposeB: boolean
  activation?: string
  leakyreluAlpha?: number
}

/** op(a)·op(b) over broadcast leading dimensions, plus a bias [columns] added to each row. */
function multiply(heap: Heap, a: TensorInfo, b: TensorInfo, bias: TensorInfo | undefined, attributes: Attributes) {
  const { transposeA, transposeB } = attributes
  if (a.dtype !== 'float32' || b.dtype !== 'float32') throw new Error('matMul on WASM takes float32 tensors only')
  const [aRows, aColumns] = a.shape.slice(-2)
  const [bRows, bColumns] = b.shape.slice(-2)
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns]
  const [inner, n] = transposeB ? [bColumns, bRows] : [bRows, bColumns]
  util.assert(k === inner, () => `matMul: inner dimensions of [${a.shape}] and [${b.shape}] differ`)
  const outer = broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2))
  const aAt = offsets(outer, a.shape.slice(0, -2), aRows * aColumns)
  const bAt = offsets(outer, b.shape.slice(0, -2), bRows * bColumns)

  const out = heap.output([...outer, m, n])
  const scratch = heap.scratch(heap.kernels.scratchBytes())
  const [aBase, bBase, outBase] = [heap.address(a), heap.address(b), heap.address(out)]
  const biasBase = bias ? heap.address(bias) : 0
  for (let i = 0; i < aAt.length; i++) {
    heap.kernels.matmul(
      ...([aBase + 4 * aAt[i], aColumns, Number(transposeA)] as const),
      ...([bBase + 4 * bAt[i], bColumns, Number(transposeB)] as const),
      ...([outBase + 4 * i * m * n, n, m, n, k, 0, biasBase, scratch] as const),
    )
  }
  return out
}

/** For each matrix of the broadcast result, the offset of its operand in floats. */
function offsets(outer: readonly number[], own: readonly number[], matrix: number): number[] {
  let at = [0]
  outer.forEach((dimension, i) => {
    const position = i - (outer.length - own.length)
    const present = position >= 0 ? own[position] : 1
    at = at.flatMap((base) => Array.from({ length: dimension }, (_, j) => base * present + (present === 1 ? 0 : j)))
  })
  return at.map((index) => index * matrix)
}

const batchMatMul: KernelConfig = {
  kernelName: 'BatchMatMul',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) =>
    multiply(heapOf(backend), inputs.a!, inputs.b!, undefined, attrs as unknown as Attributes)) as KernelFunc,
}

const fusedMatMul: KernelConfig = {
  kernelName: '_FusedMatMul',
  backendName: 'wasm',
  kernelFunc: (({ inputs, backend, attrs }) => {
    const { a, b, bias, preluActivationWeights } = inputs
    const attributes = attrs as unknown as Attributes
    if (bias && bias.shape.length !== 1) throw new Error('_FusedMatMul on WASM takes a bias of rank 1 only')
    const product = multiply(heapOf(backend), a!, b!, bias, attributes)
    return activate(backend, product, attributes, preluActivationWeights)
  }) as KernelFunc,
}

export const matmulKernels = [batchMatMul, fusedMatMul]
