/** Plain JavaScript: runs everywhere, and slowly. The last rung of the ladder and the yardstick of the others. */
import '@tensorflow/tfjs-backend-cpu'
import type * as tf from '@tensorflow/tfjs-core'
import { type Backend, start } from './backend.ts'

export async function open(): Promise<Backend> {
  const backend = (await start('cpu')) as tf.KernelBackend & { firstUse: boolean }
  // Else it advertises tfjs-node on the first tensor.
  backend.firstUse = false
  return { name: 'cpu', device: 'CPU (JavaScript), 1 thread', software: false, copiesAtOnce: false, lost: () => null }
}
