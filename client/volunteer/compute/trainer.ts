/**
 * The trainer on tfjs: a sequential classifier's gradient at a replica of the parameters, accrued over minibatches.
 *
 * It promises: the gradient comes back in layout order; every tensor it makes is disposed (their number is the same
 * after every step); one transfer from the device per lease; no work for a replica that nobody asks for.
 */
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import type { Slot } from '../../../shared/layout.ts'
import type { Layer, Topology } from '../../../shared/models.ts'
import type { Backend } from './backends/backend.ts'
import type { ModelDescription, Trainer } from './engine.ts'
import { crossEntropy, crossEntropySums } from './loss.ts'

/**
 * Loads a model on a started backend.
 * @throws Error where the topology does not end in a softmax activation, holds a layer that draws random numbers, or
 * has other weights than the layout.
 */
export async function loadTrainer(backend: Backend, description: ModelDescription): Promise<Trainer> {
  const { layout, inputShape } = description
  await use(backend)
  const model = (await tfl.loadLayersModel({
    load: async () => ({ modelTopology: logitsTopology(description.topology) }),
  })) as tfl.Sequential
  unfuse(model)
  const weights = model.trainableWeights.map((weight) => weight.read() as tf.Variable)
  expectLayout(model, layout.slots)
  const size = layout.size

  /** The sum of this lease's gradients, tensor by tensor; null before its first step. */
  let accrued: tf.Tensor[] | null = null
  /** The newest step's move of the replica, made only when somebody looks at the replica again. */
  let move: { gradient: tf.Tensor[]; rate: number } | null = null
  /** [2]: loss and hits so far; null before the first minibatch. */
  let sums: tf.Tensor | null = null
  /** What `finish` hands out where the device's memory can be read in place: one array, used again. */
  let transfer: Float32Array | null = null
  let disposed = false

  const addScaled = (y: tf.Tensor, x: tf.Tensor, scale: number): tf.Tensor =>
    backend.addScaled ? backend.addScaled(y, x, scale) : tf.tidy(() => tf.add(y, scale === 1 ? x : tf.mul(x, scale)))

  function add(more: tf.Tensor): void {
    if (sums === null) {
      sums = more
      return
    }
    const total = tf.add(sums, more)
    tf.dispose([sums, more])
    sums = total
  }
  function dropMove(): void {
    if (move) tf.dispose(move.gradient)
    move = null
  }
  function makeMove(): void {
    if (!move) return
    const { gradient, rate } = move
    weights.forEach((weight, i) => {
      const moved = addScaled(weight, gradient[i], -rate)
      weight.assign(moved)
      moved.dispose()
    })
    dropMove()
  }
  function clear(): void {
    dropMove()
    tf.dispose([...(accrued ?? []), ...(sums ? [sums] : [])])
    accrued = null
    sums = null
  }
  function batch(inputs: Float32Array, labels: Uint8Array, count: number): { x: tf.Tensor; y: tf.Tensor1D } {
    const features = inputShape.reduce((product, dimension) => product * dimension, 1)
    if (inputs.length !== count * features || labels.length !== count || count === 0) {
      throw new Error(
        `invariant: a minibatch of ${count} examples has ${count * features} inputs and ${count} labels, not ${inputs.length} and ${labels.length}`,
      )
    }
    return { x: tf.tensor(inputs, [count, ...inputShape]), y: tf.tensor1d(Int32Array.from(labels), 'int32') }
  }
  const logits = (x: tf.Tensor): tf.Tensor2D => model.apply(x, { training: true }) as tf.Tensor2D
  function check(): void {
    const lost = backend.lost()
    if (lost !== null) throw new Error(`${backend.name}: ${lost}`)
  }

  return {
    begin(parameters) {
      if (parameters.length !== size) {
        throw new Error(`invariant: the model has ${size} parameters, not ${parameters.length}`)
      }
      check()
      select(backend)
      clear()
      layout.slots.forEach((slot, i) => {
        const own = parameters.subarray(slot.offset, slot.offset + slot.size)
        // tfjs keeps an array that it is given, some backends for ever, some until they first upload it.
        const values = tf.tensor(backend.copiesAtOnce ? own : own.slice(), [...slot.shape])
        weights[i].assign(values)
        values.dispose()
      })
    },

    step(inputs, labels, count, localRate) {
      check()
      select(backend)
      makeMove()
      const { gradient, more } = tf.tidy(() => {
        const { x, y } = batch(inputs, labels, count)
        let more: tf.Tensor | undefined
        const { grads } = tf.variableGrads(() => {
          const loss = crossEntropy(logits(x), y)
          more = loss.sums
          return loss.mean as tf.Scalar
        }, weights)
        return { gradient: weights.map((weight) => grads[weight.name]), more: more! }
      })
      add(more)
      if (accrued === null) {
        accrued = gradient
        if (localRate !== 0) move = { gradient: gradient.map((tensor) => tensor.clone()), rate: localRate }
        return
      }
      const before = accrued
      accrued = gradient.map((tensor, i) => addScaled(before[i], tensor, 1))
      tf.dispose(before)
      if (localRate !== 0) move = { gradient, rate: localRate }
      else tf.dispose(gradient)
    },

    evaluate(inputs, labels, count) {
      check()
      select(backend)
      makeMove()
      add(
        tf.tidy(() => {
          const { x, y } = batch(inputs, labels, count)
          return crossEntropySums(logits(x), y)
        }),
      )
    },

    async settled() {
      // Two numbers read back are the one way to wait that every backend has.
      if (sums) await sums.data()
      check()
    },

    async finish() {
      check()
      select(backend)
      if (sums === null) return { gradient: null, lossSum: 0, correct: 0 }
      const read = await readAll(backend, [...(accrued ?? []), sums], (total) => {
        if (transfer?.length !== total) transfer = new Float32Array(total)
        return transfer
      })
      check()
      const [lossSum, correct] = read.subarray(read.length - 2)
      return { gradient: accrued ? read.subarray(0, size) : null, lossSum, correct }
    },

    async replica() {
      check()
      select(backend)
      makeMove()
      const read = await readAll(backend, weights, (total) => new Float32Array(total))
      check()
      return read
    },

    dispose() {
      if (disposed) return
      disposed = true
      select(backend)
      clear()
      model.dispose()
    },
  }
}

/** Makes a started backend tfjs' current one: there may be several, and tfjs has one engine for all. */
function select(backend: Backend): void {
  // For a backend that has started, setBackend does its work before it returns its promise.
  if (tf.getBackend() !== backend.name) void tf.setBackend(backend.name)
}
async function use(backend: Backend): Promise<void> {
  if (tf.getBackend() !== backend.name) await tf.setBackend(backend.name)
}

/** Several tensors' numbers in one transfer. */
async function readAll(
  backend: Backend,
  tensors: tf.Tensor[],
  room: (total: number) => Float32Array,
): Promise<Float32Array> {
  if (backend.readInto) {
    const target = room(tensors.reduce((total, tensor) => total + tensor.size, 0))
    backend.readInto(tensors, target)
    return target
  }
  const flat = tf.tidy(() => tf.concat(tensors.map((tensor) => tf.reshape(tensor, [-1]))))
  try {
    return (await flat.data()) as Float32Array
  } finally {
    flat.dispose()
  }
}

/** The topology below the softmax, with zeros for initial weights: they are set before they are used. */
function logitsTopology(topology: Topology): Topology {
  const layers = structuredClone(topology.config.layers) as Layer[]
  const last = layers.pop()
  if (last?.class_name !== 'Activation' || last.config.activation !== 'softmax' || layers.length === 0) {
    throw new Error(
      `a classifier must end in an Activation layer softmax of its own; this one ends in ${last?.class_name ?? 'nothing'}`,
    )
  }
  // tfjs flattens nothing that is flat already.
  const inputShape = layers[0].config.batch_input_shape as unknown[] | undefined
  if (layers[0].class_name === 'Flatten' && inputShape?.length === 2 && layers.length > 1) {
    layers.shift()
    layers[0].config.batch_input_shape = inputShape
  }
  for (const { class_name, config } of layers) {
    if (class_name === 'Dropout' && config.rate !== 0) {
      throw new Error(`layer ${config.name} draws random numbers of its own, so a lease could not be recomputed`)
    }
    for (const initializer of ['kernel_initializer', 'bias_initializer']) {
      if (initializer in config) config[initializer] = { class_name: 'Zeros', config: {} }
    }
  }
  return { ...topology, config: { ...topology.config, layers } }
}

function expectLayout(model: tfl.Sequential, slots: readonly Slot[]): void {
  const has = model.weights.map((weight) => `${weight.originalName} [${weight.shape}]`)
  const expected = slots.map((slot) => `${slot.name} [${slot.shape}]`)
  if (has.join() !== expected.join()) {
    throw new Error(
      `the topology's weights are not the layout's: expected ${expected.join(', ')}; got ${has.join(', ')}`,
    )
  }
}

interface AffineLayer extends tfl.layers.Layer {
  kernel: tfl.LayerVariable
  bias: tfl.LayerVariable | null
  activation: { apply(x: tf.Tensor): tf.Tensor }
  strides: [number, number]
  padding: 'same' | 'valid'
  dataFormat: string
  dilationRate: [number, number]
}

/**
 * Lets Dense and Conv2D layers compute in tfjs' plain operations. Their own `call` uses fused ones, whose gradient
 * always includes the one of the input, also in the first layer, where nobody wants it.
 */
function unfuse(model: tfl.Sequential): void {
  for (const layer of model.layers as AffineLayer[]) {
    const kind = layer.getClassName()
    const finish = (x: tf.Tensor): tf.Tensor => {
      const shifted = layer.bias ? tf.add(x, layer.bias.read()) : x
      return layer.activation ? layer.activation.apply(shifted) : shifted
    }
    const input = (inputs: tf.Tensor | tf.Tensor[]): tf.Tensor => (Array.isArray(inputs) ? inputs[0] : inputs)
    if (kind === 'Dense' && layer.kernel.shape.length === 2 && layer.inputSpec?.[0].ndim !== 3) {
      const original = layer.call.bind(layer)
      layer.call = (inputs, options) => {
        const x = input(inputs)
        if (x.rank !== 2) return original(inputs, options)
        return tf.tidy(() => finish(tf.matMul(x as tf.Tensor2D, layer.kernel.read() as tf.Tensor2D)))
      }
    }
    if (kind === 'Conv2D' && layer.dataFormat !== 'channelsFirst') {
      layer.call = (inputs) =>
        tf.tidy(() =>
          finish(
            tf.conv2d(
              input(inputs) as tf.Tensor4D,
              layer.kernel.read() as tf.Tensor4D,
              layer.strides,
              layer.padding,
              'NHWC',
              layer.dilationRate,
            ),
          ),
        )
    }
  }
}
