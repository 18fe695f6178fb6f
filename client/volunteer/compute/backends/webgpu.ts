/** WebGPU: the browser's own, or in Node the one handed in as `gpu` (dawn.ts). */
import type * as tf from '@tensorflow/tfjs-core'
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
  let lost: string | null = null
  backend.device.lost.then(({ reason, message }) => {
    lost = `the device was lost (${reason}${message ? `: ${message}` : ''})`
  })
  return { name: 'webgpu', device: `WebGPU (${adapterName})`, software, copiesAtOnce: false, lost: () => lost }
}
