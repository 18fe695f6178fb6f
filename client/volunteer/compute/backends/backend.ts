/**
 * What the trainer needs of one tfjs backend beyond tfjs' own operations, and how such a backend is brought up.
 * One file beside this one per backend; each is reached only by a dynamic import, so a browser downloads only the
 * backend it uses.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { BackendName } from '../../../../shared/backends.ts'

export interface BackendOptions {
  /**
   * WASM in a browser: where the .wasm files of @tensorflow/tfjs-backend-wasm are served: the address of their folder
   * (ending in `/`), or one address per file name. Node finds them in the package.
   */
  wasmPath?: string | Record<string, string>
  /** WebGPU outside a browser: the GPU object to use, from `dawn()` in dawn.ts. */
  gpu?: GPU
}

export interface Backend {
  readonly name: BackendName
  /** For people. */
  readonly device: string
  /** True where a processor imitates a graphics device: right, but far slower than the WASM backend. */
  readonly software: boolean
  /** Whether tfjs copies a new tensor's array at once; other backends may read it later. */
  readonly copiesAtOnce: boolean
  /** Why the device is gone; null while it works. */
  lost(): string | null
  /** y + scale·x in one pass, into a new tensor; without it tfjs operations are composed. */
  addScaled?(y: tf.Tensor, x: tf.Tensor, scale: number): tf.Tensor
  /**
   * y += scale·x where y's numbers lie. They must be nobody else's, and no parameters: tfjs keeps packed copies of
   * some.
   */
  addTo?(y: tf.Tensor, x: tf.Tensor, scale: number): void
  /**
   * y + e += scale·x where their numbers lie, as `addTo`: y takes the sum, e what its rounding lost (kernels.ts,
   * `carry`).
   */
  carry?(y: tf.Tensor, e: tf.Tensor, x: tf.Tensor, scale: number): void
  /** c [m, n] += aᵀ·b where c's numbers lie, as `addTo`, of a [k, m] and b [k, n]. */
  addProductTo?(c: tf.Tensor2D, a: tf.Tensor2D, b: tf.Tensor2D): void
  /** The numbers of float32 tensors, one after the other, without a detour over a concatenated tensor. */
  readInto?(tensors: readonly tf.Tensor[], target: Float32Array): void
}

/** What a module beside this one exports. */
export interface BackendModule {
  /** Registers the backend with tfjs and makes it the current one. Throws where the device cannot be had. */
  open(options: BackendOptions): Promise<Backend>
}

const factories = new Map<BackendName, () => tf.KernelBackend | Promise<tf.KernelBackend>>()

/**
 * Starts a registered tfjs backend and makes it the current one. tfjs itself logs why a backend does not start and
 * forgets it; here that is the error.
 */
export async function start(name: BackendName): Promise<tf.KernelBackend> {
  const factory = factories.get(name) ?? tf.findBackendFactory(name)
  if (!factory) throw new Error('not registered with tfjs on this platform')
  factories.set(name, factory)
  let failure: unknown
  tf.removeBackend(name)
  tf.registerBackend(name, async () => {
    try {
      return await factory()
    } catch (error) {
      failure = error
      throw error
    }
  })
  const warn = console.warn
  console.warn = () => {}
  try {
    if (!(await tf.setBackend(name))) throw new Error(reason(failure))
  } finally {
    console.warn = warn
  }
  return tf.backend()
}

/** Ends a backend that `start` started; it can be started again. */
export function stop(name: BackendName): void {
  const factory = factories.get(name)
  if (!factory) return
  tf.removeBackend(name)
  tf.registerBackend(name, factory)
}

/** What went wrong, in words: emscripten and WebGPU also throw things that are no errors. */
export function reason(failure: unknown): string {
  if (failure instanceof Error) return failure.message
  const message = (failure as { message?: unknown } | null)?.message
  return typeof message === 'string' ? message : failure === undefined ? 'it did not start' : String(failure)
}

const SOFTWARE = /swiftshader|llvmpipe|softpipe|lavapipe|software|basic render|warp/i

/** Whether an adapter's or renderer's name is that of a processor imitating a graphics device. */
export function isSoftware(device: string): boolean {
  return SOFTWARE.test(device)
}
