/** WebGPU: the browser's own, or in Node the one handed in as `gpu` (dawn.ts). */
import * as tf from '@tensorflow/tfjs-core'
import { type Backend, type BackendOptions, isSoftware, start } from './backend.ts'

export async function open({ gpu }: BackendOptions): Promise<Backend> {
  if (gpu) {
    // Node has a navigator from version 21 on only.
    if (!globalThis.navigator) Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true })
    Object.defineProperty(globalThis.navigator, 'gpu', { value: gpu, configurable: true })
  }
  const present = globalThis.navigator?.gpu
  if (!present) throw new Error('this browser (or process) has no navigator.gpu')
  const adapter = await present.requestAdapter({ powerPreference: 'high-performance' })
  if (!adapter) throw new Error('navigator.gpu has no adapter')
  const { vendor, architecture, device, description } = adapter.info
  const adapterName = description || device || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed adapter'
  const software =
    adapter.info.isFallbackAdapter === true ||
    isSoftware(Object.values([vendor, architecture, device, description]).join(' '))

  // Imported only now: tfjs' module looks for navigator.gpu once, when it is loaded.
  await import('@tensorflow/tfjs-backend-webgpu')
  const backend = (await start('webgpu')) as tf.KernelBackend & { device: GPUDevice }
  avoidFaultyProduct()
  let lost: string | null = null
  backend.device.lost.then(({ reason, message }) => {
    lost = `the device was lost (${reason}${message ? `: ${message}` : ''})`
  })
  return { name: 'webgpu', device: `WebGPU (${adapterName})`, software, copiesAtOnce: false, lost: () => lost }
}

/** tfjs' number for MatMulPackedProgram, its general one. */
const PACKED_PROGRAM = 3
/** From this inner dimension on tfjs may split it among workgroups (MatMulSplitKProgram). */
const SPLIT_FROM = 2000

/**
 * In tfjs 4.22 that split program multiplies the wrong elements when the second operand is transposed and the number
 * of columns divides by four, which is the gradient of a wide layer's input in a small batch: such products are given
 * to the general program. The self-test's wide net would notice.
 */
function avoidFaultyProduct(): void {
  for (const name of ['BatchMatMul', '_FusedMatMul']) {
    const kernel = tf.getKernel(name, 'webgpu')
    if (!kernel || guarded.has(kernel.kernelFunc)) continue
    const original = kernel.kernelFunc
    const guard: tf.KernelFunc = (args) => {
      const { transposeB } = args.attrs as unknown as { transposeB: boolean }
      const b = args.inputs.b as tf.TensorInfo
      if (!transposeB || b.shape[b.shape.length - 1] < SPLIT_FROM) return original(args)
      const chosen = tf.env().getNumber('WEBGPU_MATMUL_PROGRAM_TYPE')
      tf.env().set('WEBGPU_MATMUL_PROGRAM_TYPE', PACKED_PROGRAM)
      try {
        return original(args)
      } finally {
        tf.env().set('WEBGPU_MATMUL_PROGRAM_TYPE', chosen)
      }
    }
    guarded.add(guard)
    tf.unregisterKernel(name, 'webgpu')
    tf.registerKernel({ ...kernel, kernelFunc: guard })
  }
}
const guarded = new WeakSet<tf.KernelFunc>()
