/** Judges WebGPU in Node by the oracle; test/unit/compute-webgpu.test.ts starts it and reads the JSON it prints. */
import * as tf from '@tensorflow/tfjs-core'
import { dawn } from '../../client/volunteer/compute/dawn.ts'
import { chooseEngine, openEngine } from '../../client/volunteer/compute/engines.ts'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel, type ModelSpec } from '../../shared/models.ts'
import { Random } from '../../shared/random.ts'
import { deviation, judge } from './oracle.ts'

const gpu = await dawn()
const declined: string[] = []
const chosen = await chooseEngine(undefined, { gpu, onDeclined: (error) => declined.push(error.message) })
const engine = await openEngine('webgpu', { gpu })

const specs: [ModelSpec, number[]][] = [
  [{ template: 'softmax' }, [6, 6, 1]],
  [{ template: 'mlp', hidden: [33, 17], activation: 'relu' }, [6, 6, 1]],
  [{ template: 'lenet', activation: 'relu' }, [14, 13, 2]],
]
const random = new Random(7)
const before = tf.memory().numTensors
const deviations: Record<string, number> = {}
for (const [spec, inputShape] of specs) {
  const model = buildModel(spec, inputShape, 10)
  const count = 7
  const features = inputShape.reduce((product, dimension) => product * dimension, 1)
  const parameters = initialParameters(model.layout, 4)
  const inputs = Float32Array.from({ length: count * features }, (_, i) => random.uniform(i))
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 10)
  const trainer = await engine.load(model)
  trainer.begin(parameters)
  trainer.step(inputs, labels, count, 0)
  await trainer.settled()
  const { gradient, lossSum, correct } = await trainer.finish()
  const expected = judge(model, parameters, inputs, labels, count)
  deviations[spec.template] = Math.max(
    deviation(gradient!, expected.gradient),
    Math.abs(lossSum / expected.lossSum - 1),
    correct === expected.correct ? 0 : 1,
  )
  trainer.dispose()
}
const leaked = tf.memory().numTensors - before
console.log(JSON.stringify({ chosen: chosen.backend, declined, device: engine.device, deviations, leaked }))
// Dawn keeps the process alive.
process.exit(0)
