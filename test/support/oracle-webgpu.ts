/** Judges WebGPU in Node by the oracle; test/unit/compute-webgpu.test.ts starts it and reads the JSON it prints. */
import * as tf from '@tensorflow/tfjs-core'
import { dawn } from '../../client/volunteer/compute/dawn.ts'
import { chooseEngine, openEngine } from '../../client/volunteer/compute/engines.ts'
import { initialParameters } from '../../shared/layout.ts'
import { cases } from './oracle-cases.ts'
import { compare, type Difference } from './oracle-lease.ts'

const gpu = await dawn()
const declined: string[] = []
const chosen = await chooseEngine(undefined, { gpu, onDeclined: (error) => declined.push(error.message) })
const engine = await openEngine('webgpu', { gpu })

const before = tf.memory().numTensors
const differences: Record<string, Difference> = {}
for (const { name, model, rare } of cases) {
  if (rare) continue
  differences[name] = await compare(engine, model, initialParameters(model.layout, 4), 4)
}
const leaked = tf.memory().numTensors - before
console.log(JSON.stringify({ chosen: chosen.backend, declined, device: engine.device, differences, leaked }))
// Dawn keeps the process alive.
process.exit(0)
