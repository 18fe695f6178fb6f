/**
 * Our own WASM module (assembly/, built by shared/kernels/build.mjs into wasm.ts), instantiated on the memory of tfjs'
 * WASM backend: it reads and writes tfjs' tensors where they lie.
 */
import { type DataId, type DataType, type KernelBackend, type TensorInfo, util } from '@tensorflow/tfjs-core'
import { wasm } from './wasm.ts'

type Address = number

/** Bytes, less what a heap keeps beside them. */
const ADDRESSABLE = 2 ** 32 - 2 ** 24

/** What the module exports; assembly/ documents each. */
export interface Kernels {
  scratchBytes(): number
  matmul(
    ...operands: [
      ...[a: Address, lda: number, transposeA: number],
      ...[b: Address, ldb: number, transposeB: number],
      ...[c: Address, ldc: number],
      ...[m: number, n: number, k: number],
      ...[accumulate: number, bias: Address, scratch: Address],
    ]
  ): void
  geometry(
    ...shape: [
      ...[batch: number, inHeight: number, inWidth: number, inChannels: number],
      ...[outHeight: number, outWidth: number, outChannels: number],
      ...[kernelHeight: number, kernelWidth: number, strideY: number, strideX: number],
      ...[dilationY: number, dilationX: number, padTop: number, padLeft: number],
    ]
  ): void
  conv2dScratchBytes(): number
  conv2d(x: Address, filter: Address, bias: Address, y: Address, scratch: Address): void
  conv2dFilterGradient(x: Address, dy: Address, filter: Address, scratch: Address): void
  conv2dInputGradient(dy: Address, filter: Address, dx: Address, scratch: Address): void
  depthwiseFilterGradient(x: Address, dy: Address, filter: Address): void
  depthwiseInputGradient(dy: Address, filter: Address, dx: Address): void
  maxPoolGradient(
    ...operands: [
      ...[dx: Address, dy: Address, x: Address],
      ...[batch: number, inHeight: number, inWidth: number, channels: number, outHeight: number, outWidth: number],
      ...[windowHeight: number, windowWidth: number, strideY: number, strideX: number],
      ...[dilationY: number, dilationX: number, padTop: number, padLeft: number],
    ]
  ): void
  averagePoolGradient(
    ...operands: [
      ...[dx: Address, dy: Address],
      ...[batch: number, inHeight: number, inWidth: number, channels: number, outHeight: number, outWidth: number],
      ...[windowHeight: number, windowWidth: number, strideY: number, strideX: number],
      ...[padTop: number, padLeft: number],
    ]
  ): void
  carry(y: Address, e: Address, x: Address, count: number, a: number): void
  addScaled(out: Address, y: Address, x: Address, scale: number, count: number): void
  sumRows(out: Address, x: Address, m: number, n: number): void
  reluGradient(out: Address, dy: Address, x: Address, count: number): void
  tanh(out: Address, x: Address, count: number): void
  addToRows(out: Address, x: Address, bias: Address, m: number, n: number): void
}

/** The parts of tfjs' WASM backend that are needed and that its types keep to themselves. */
interface WasmBackend extends KernelBackend {
  wasm: {
    asm: { memory: WebAssembly.Memory }
    HEAPU8: Uint8Array
    _malloc(bytes: number): number
    _free(address: Address): void
  }
  dataIdMap: { get(dataId: DataId): { memoryOffset: Address } }
  makeOutput(shape: number[], dtype: DataType): TensorInfo
}

/** tfjs' heap with our kernels on it. */
export interface Heap {
  readonly kernels: Kernels
  /** Where a tensor's numbers lie, in bytes. */
  address(tensor: TensorInfo): Address
  /** The numbers of a float32 tensor themselves; a view that the next allocation may end. */
  floats(tensor: TensorInfo): Float32Array
  /** As `floats`, of an int32 tensor. */
  integers(tensor: TensorInfo): Int32Array
  /** A new float32 tensor, not yet written to. */
  output(shape: readonly number[]): TensorInfo
  /** Ends a tensor that `output` made. */
  dispose(tensor: TensorInfo): void
  /** At least so many bytes of scratch memory, until the next call. */
  scratch(bytes: number): Address
}

const heaps = new WeakMap<KernelBackend, Heap>()
let compiled: WebAssembly.Module | undefined

/** The heap of a WASM backend; `prepareHeap` must have been called for it. */
export function heapOf(backend: unknown): Heap {
  const heap = heaps.get(backend as KernelBackend)
  if (!heap) throw new Error('invariant: this WASM backend was not started by backends/wasm.ts')
  return heap
}

/** Instantiates our module on a started WASM backend's memory. */
export async function prepareHeap(backend: KernelBackend): Promise<Heap> {
  const { wasm: module, dataIdMap } = backend as WasmBackend
  // Nobody else looks whether there is memory: what lies at address 0 would be written over.
  // (Its first call puts the module's own in place.)
  module._free(module._malloc(1))
  const { _malloc: malloc } = module
  let lost = false
  module._malloc = (bytes) => {
    // Of more than 4 GB, or nearly as much, it would take the rest for meant.
    const at = lost || bytes >= ADDRESSABLE ? 0 : malloc(bytes)
    // Where what is left does not do, it mostly answers all the same, with a block that ends beyond it (the sum of both
    // wraps at 4 GB unseen), and from then on gives out what is in use.
    lost ||= at !== 0 && (at >>> 0) + bytes > module.HEAPU8.length
    if (at === 0 || lost) throw new Error(`wasm: no memory left for ${bytes} bytes`)
    return at
  }
  compiled ??= await WebAssembly.compile(Uint8Array.from(atob(wasm), (character) => character.charCodeAt(0)))
  const instance = await WebAssembly.instantiate(compiled, { env: { memory: module.asm.memory } })
  let scratchAt: Address = 0
  let scratchSize = 0
  const address = (tensor: TensorInfo): Address => dataIdMap.get(tensor.dataId).memoryOffset
  const heap: Heap = {
    kernels: instance.exports as unknown as Kernels,
    address,
    floats: (tensor) => new Float32Array(module.HEAPU8.buffer, address(tensor), util.sizeFromShape(tensor.shape)),
    integers: (tensor) => new Int32Array(module.HEAPU8.buffer, address(tensor), util.sizeFromShape(tensor.shape)),
    output: (shape) => (backend as WasmBackend).makeOutput([...shape], 'float32'),
    dispose: (tensor) => {
      backend.disposeData(tensor.dataId)
    },
    scratch(bytes) {
      if (bytes > scratchSize) {
        if (scratchAt) module._free(scratchAt)
        // Where there is no memory for the new one, there is none.
        scratchAt = 0
        scratchSize = 0
        // It answers with a signed number above 2 GiB.
        scratchAt = module._malloc(bytes) >>> 0
        scratchSize = bytes
      }
      return scratchAt
    },
  }
  heaps.set(backend, heap)
  return heap
}
