/** WASM with SIMD, one thread: the work horse where there is no graphics device. */
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import * as tf from '@tensorflow/tfjs-core'
import { prepareHeap } from '../kernels/heap.ts'
import { registerKernels } from '../kernels/register.ts'
import { type Backend, type BackendOptions, start } from './backend.ts'

export async function open({ wasmPath }: BackendOptions): Promise<Backend> {
  if (!(await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT'))) throw new Error('this browser has no WebAssembly SIMD')
  // Threads need a cross-origin isolated page, which a frame on somebody's site is not.
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false)
  if (wasmPath !== undefined) setWasmPaths(wasmPath)
  registerKernels()
  const heap = await prepareHeap(await withoutProcessListeners(() => start('wasm')))
  return {
    name: 'wasm',
    device: 'WASM SIMD, 1 thread',
    software: false,
    copiesAtOnce: true,
    lost: () => null,
    addScaled(y, x, scale) {
      const out = heap.output(y.shape)
      heap.kernels.addScaled(heap.address(out), heap.address(y), heap.address(x), scale, y.size)
      return tf.engine().makeTensorFromTensorInfo(out)
    },
    addTo(y, x, scale) {
      heap.kernels.addScaled(heap.address(y), heap.address(y), heap.address(x), scale, y.size)
    },
    carry(y, e, x, scale) {
      heap.kernels.carry(heap.address(y), heap.address(e), heap.address(x), y.size, scale)
    },
    addProductTo(c, a, b) {
      const [depth, rows] = a.shape
      const columns = b.shape[1]
      heap.kernels.matmul(
        ...([heap.address(a), rows, 1, heap.address(b), columns, 0, heap.address(c), columns] as const),
        ...([rows, columns, depth, 1, 0, heap.scratch(heap.kernels.scratchBytes())] as const),
      )
    },
    readInto(tensors, target) {
      let at = 0
      for (const tensor of tensors) {
        target.set(heap.floats(tensor), at)
        at += tensor.size
      }
    },
  }
}

/** emscripten's loader makes itself Node's handler of uncaught errors, to print its own source and rethrow them. */
async function withoutProcessListeners<T>(work: () => Promise<T>): Promise<T> {
  const events = ['uncaughtException', 'unhandledRejection'] as const
  const host = (globalThis as { process?: NodeJS.Process }).process
  const before = events.map((event) => host?.listeners?.(event as never) ?? [])
  const result = await work()
  events.forEach((event, i) => {
    for (const listener of host?.listeners?.(event as never) ?? []) {
      if (!before[i].includes(listener)) host?.removeListener(event, listener as never)
    }
  })
  return result
}
