/**
 * What comes of a stack of trained RBMs: the fixed layers below the next one, the first parameters of the network that
 * is fine-tuned, and the up-pass and the down-pass as networks of their own. Pure: vectors in, new vectors out.
 *
 * A stack is the flat parameters of its RBMs from below, each in the layout of `buildRbm`: W [visible, hidden], hidden
 * biases, visible biases. It may be shorter than the network: what is trained so far. Where the top one sees labels,
 * their rows of W and their biases come after those of the features. Passes up and down leave them out.
 */
import { type Layout, layout } from './layout.ts'
import { buildModel, type RbmLayer, rbmLayers, rbmTensors, type Shape } from './models.ts'
import type { ModelSpec } from './run-spec.ts'
import { elementsOf } from './shape.ts'
import { dense, flatten } from './templates.ts'
import { type Layer, layoutOf, sequential, type Topology } from './topology.ts'

export type Stack = readonly Float32Array[]

/** Parameters by name. */
export interface Tensors {
  readonly layout: Layout
  readonly parameters: Float32Array
}

/** A network that only answers: what an export needs. */
export interface Part extends Tensors {
  readonly topology: Topology
}

/** What the parts are taken from: a stack, or the parameters of an autoencoder's network (`buildModel`). */
export type Trained = { readonly stack: Stack } | { readonly network: Float32Array }

/** The parameters of the fixed layers below the next RBM, for `buildRbm`; null below the first. */
export function lowerOf(spec: ModelSpec, shape: Shape, stack: Stack): Float32Array | null {
  return stack.length === 0 ? null : up(rbms(spec, shape, stack))
}

/** Standard deviation of a pre-trained classifier's first output weights (backpropclassify.m, ALGORITHMS §2.3). */
const OUTPUT_SD = 0.1

/**
 * The first parameters of the network that is fine-tuned, of the whole stack and of its own `initial` parameters, which
 * are left as they are. A classifier: W and hidden biases, and above them the output layer with its weights scaled to
 * standard deviation 0.1 (backpropclassify.m draws normal ones; these stay uniform). An autoencoder: W and hidden
 * biases, then Wᵀ and visible biases from the top down (Hinton & Salakhutdinov 2006; ALGORITHMS §2.5).
 */
export function unrolled(spec: ModelSpec, shape: Shape, stack: Stack, initial: Float32Array): Float32Array {
  const { layout } = buildModel(spec, shape, null)
  if (initial.length !== layout.size) {
    throw new Error(`invariant: the network has ${layout.size} parameters, not ${initial.length}`)
  }
  const all = rbms(spec, shape, stack)
  if (stack.length === 0 || stack.length !== rbmLayers(spec).length || spec.template === 'rbm') {
    throw new Error(`invariant: no network of template ${spec.template} is unrolled from ${stack.length} RBMs`)
  }
  const parameters = Float32Array.from(initial)
  const encoder = up(all)
  parameters.set(encoder)
  if (spec.template === 'autoencoder') {
    parameters.set(down(all), encoder.length)
    return parameters
  }
  for (const { offset, size, init } of layout.slots) {
    if (offset < encoder.length || init.kind !== 'uniform') continue
    const scale = (OUTPUT_SD * Math.sqrt(3)) / init.limit
    for (let i = offset; i < offset + size; i++) parameters[i] *= scale
  }
  return parameters
}

/** From an example to its code: probabilities all the way, a gaussian code layer linear. */
export function encoder(spec: ModelSpec, shape: Shape, trained: Trained): Part {
  const dense = layersIn(spec, trained).map(({ units, hidden }, i) =>
    affine('encoder', i, units, hidden === 'gaussian' ? 'linear' : 'sigmoid'),
  )
  const parameters =
    'stack' in trained ? up(rbms(spec, shape, trained.stack)) : halves(spec, shape, trained.network).encoder
  return part('encoder', [...flatten(shape.inputShape), ...dense], shape.inputShape, parameters)
}

/** From a code to an example, flat, its elements probabilities. */
export function decoder(spec: ModelSpec, shape: Shape, trained: Trained): Part {
  const units = layersIn(spec, trained).map(({ units }) => units)
  const [code, ...widths] = [elementsOf(shape.inputShape), ...units].reverse()
  const parameters =
    'stack' in trained ? down(rbms(spec, shape, trained.stack)) : halves(spec, shape, trained.network).decoder
  const dense = widths.map((width, i) => affine('decoder', i, width, 'sigmoid'))
  return part('decoder', dense, [code], parameters)
}

/**
 * The machines themselves, biases both ways and what the top one knows of labels: rbm_<n>/kernel, /bias, /visible_bias.
 */
export function machines(spec: ModelSpec, shape: Shape, stack: Stack): Tensors {
  const tensors = rbms(spec, shape, stack).flatMap(({ visible, hidden, labelBias }, layer) =>
    rbmTensors(layer, visible + labelBias.length, hidden, 0),
  )
  return { layout: layout(tensors), parameters: joined(stack) }
}

function layersIn(spec: ModelSpec, trained: Trained): RbmLayer[] {
  const layers = rbmLayers(spec).slice(0, 'stack' in trained ? trained.stack.length : undefined)
  if (layers.length === 0) throw new Error(`invariant: template ${spec.template} has no trained RBM yet`)
  return layers
}

const affine = (name: string, index: number, units: number, activation: string) =>
  dense(`${name}_${index + 1}`, units, activation)

function part(name: string, layers: Layer[], inputShape: readonly number[], parameters: Float32Array): Part {
  const topology = sequential(name, layers, inputShape)
  return { topology, layout: layoutOf(topology), parameters }
}

/** The two halves of an autoencoder's parameters: as many layers up as down. */
function halves(spec: ModelSpec, shape: Shape, network: Float32Array) {
  const { layout } = buildModel(spec, shape, null)
  if (spec.template !== 'autoencoder' || network.length !== layout.size) {
    throw new Error(`invariant: ${network.length} parameters are no autoencoder of template ${spec.template}`)
  }
  const middle = layout.slots[layout.slots.length / 2].offset
  return { encoder: network.slice(0, middle), decoder: network.slice(middle) }
}

export interface Rbm {
  readonly visible: number
  readonly hidden: number
  /** [visible, hidden] */
  readonly weights: Float32Array
  readonly hiddenBias: Float32Array
  readonly visibleBias: Float32Array
  /** [labels, hidden], and a bias each; empty where the machine sees no labels. */
  readonly labelWeights: Float32Array
  readonly labelBias: Float32Array
}

/** The machines of a stack, from below. */
export function rbms(spec: ModelSpec, { inputShape, classes }: Shape, stack: Stack): Rbm[] {
  const layers = rbmLayers(spec)
  let visible = elementsOf(inputShape)
  return stack.map((vector, i) => {
    const hidden = layers[i]?.units ?? 0
    const all = visible + (layers[i]?.labels ? classes : 0)
    const expected = all * hidden + hidden + all
    if (i >= layers.length || vector.length !== expected) {
      throw new Error(
        `invariant: RBM ${i} of template ${spec.template} has ${expected} parameters, not ${vector.length}`,
      )
    }
    const biases = all * hidden
    const visibleBiases = biases + hidden
    const rbm = {
      visible,
      hidden,
      weights: vector.subarray(0, visible * hidden),
      hiddenBias: vector.subarray(biases, visibleBiases),
      visibleBias: vector.subarray(visibleBiases, visibleBiases + visible),
      labelWeights: vector.subarray(visible * hidden, biases),
      labelBias: vector.subarray(visibleBiases + visible),
    }
    visible = hidden
    return rbm
  })
}

/** W and hidden biases, from below. */
const up = (all: readonly Rbm[]) => joined(all.flatMap(({ weights, hiddenBias }) => [weights, hiddenBias]))

/** Wᵀ and visible biases, from above. */
const down = (all: readonly Rbm[]) => joined([...all].reverse().flatMap((rbm) => [transposed(rbm), rbm.visibleBias]))

function transposed({ visible, hidden, weights }: Rbm): Float32Array {
  const across = new Float32Array(weights.length)
  for (let v = 0; v < visible; v++) {
    for (let h = 0; h < hidden; h++) across[h * visible + v] = weights[v * hidden + h]
  }
  return across
}

function joined(vectors: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(vectors.reduce((size, vector) => size + vector.length, 0))
  let offset = 0
  for (const vector of vectors) {
    whole.set(vector, offset)
    offset += vector.length
  }
  return whole
}
