/** WebGL 2, in a page or (OffscreenCanvas) in a worker. */
import * as tf from '@tensorflow/tfjs-core'
import { type Backend, isSoftware, start } from './backend.ts'

export async function open(): Promise<Backend> {
  if (typeof OffscreenCanvas === 'undefined' && typeof document === 'undefined') {
    throw new Error('there is no canvas here to take a WebGL context from')
  }
  await import('@tensorflow/tfjs-backend-webgl')
  // tfjs would refuse a software renderer without a word; this module's caller recognises it by name and decides.
  tf.env().set('SOFTWARE_WEBGL_ENABLED', true)
  // tfjs 4.22 packs 2×2 elements into a texel. Its packed product also adds up what lies beyond an odd edge, and relies
  // on zeros there, which its packed elementwise operations do not keep: odd batches and layers give wrong gradients.
  tf.env().set('WEBGL_PACK_BINARY_OPERATIONS', false)
  tf.env().set('WEBGL_PACK_UNARY_OPERATIONS', false)
  if (tf.env().getNumber('WEBGL_VERSION') !== 2) throw new Error('there is no WebGL 2 context to be had')
  const backend = (await start('webgl')) as tf.KernelBackend & { gpgpu: { gl: WebGL2RenderingContext } }
  const gl = backend.gpgpu.gl
  if (tf.env().getNumber('WEBGL_RENDER_FLOAT32_ENABLED') === 0) {
    throw new Error('its textures hold 16-bit floats only, too coarse for training')
  }
  const unmasked = gl.getExtension('WEBGL_debug_renderer_info')
  const renderer = String(gl.getParameter(unmasked ? unmasked.UNMASKED_RENDERER_WEBGL : gl.RENDERER))
  return {
    name: 'webgl',
    device: `WebGL (${renderer})`,
    software: isSoftware(renderer),
    copiesAtOnce: false,
    lost: () => (gl.isContextLost() ? 'the WebGL context was lost' : null),
  }
}
