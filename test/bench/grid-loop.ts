/**
 * The plain loops that the grid is held against: the same model, data, batch size and number of threads, no network.
 * `here` steps the volunteer's own trainer, `stock` tfjs-layers with tf.train.sgd on stock kernels. Prints the number
 * of examples per second over the seconds given.
 */
import { readMnist } from '../../coordinator/datasets/mnist.ts'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import { GRID } from './grid-task.ts'

const [role, seconds] = [process.argv[2], Number(process.argv[3])]
const { train } = readMnist()
const model = buildModel(GRID.model, { inputShape: [28, 28, 1], classes: 10 }, null)
const parameters = initialParameters(model.layout, 1)
const inputs = new Float32Array(GRID.batchSize * 784)
const labels = new Uint8Array(GRID.batchSize)
const minibatch = { inputs, labels, keys: new Uint32Array(2 * GRID.batchSize), count: GRID.batchSize }
let at = 0

/** The next minibatch, from bytes, as a volunteer makes it. */
function nextBatch(): void {
  if (at + GRID.batchSize > train.count) at = 0
  const bytes = train.inputs.subarray(at * 784, (at + GRID.batchSize) * 784)
  for (let i = 0; i < bytes.length; i++) inputs[i] = bytes[i] / 255
  labels.set(train.labels.subarray(at, at + GRID.batchSize))
  at += GRID.batchSize
}

async function here(): Promise<() => Promise<void>> {
  const { openEngine } = await import('../../client/volunteer/compute/engines.ts')
  const trainer = await (await openEngine('wasm')).load(model)
  trainer.begin(parameters)
  return async () => {
    trainer.step(minibatch, { localRate: GRID.rate, weight: 1 })
    await trainer.settled()
  }
}

async function stock(): Promise<() => Promise<void>> {
  const tf = await import('@tensorflow/tfjs-core')
  const layers = await import('@tensorflow/tfjs-layers')
  await import('@tensorflow/tfjs-backend-wasm')
  await tf.setBackend('wasm')
  const topology = structuredClone(model.topology)
  topology.config.layers.pop()
  const net = await layers.loadLayersModel({ load: async () => ({ modelTopology: topology }) })
  const optimizer = tf.train.sgd(GRID.rate)
  return async () => {
    tf.tidy(() => {
      const x = tf.tensor(inputs, [labels.length, 28, 28, 1])
      const truth = tf.oneHot(tf.tensor1d(Int32Array.from(labels), 'int32'), 10)
      optimizer.minimize(() => tf.losses.softmaxCrossEntropy(truth, net.apply(x, { training: true }) as never))
    })
  }
}

const step = await (role === 'stock' ? stock() : here())
for (let i = 0; i < 5; i++) {
  nextBatch()
  await step()
}
const began = performance.now()
let steps = 0
while (performance.now() - began < 1000 * seconds) {
  nextBatch()
  await step()
  steps++
}
console.log((1000 * steps * GRID.batchSize) / (performance.now() - began))
process.exit(0)
