/**
 * What is trained: a topology, the layout of its parameters, and what is minimised, built of a RunSpec's template for a
 * dataset's shape. Every classifier ends in an Activation layer `softmax` of its own: a volunteer trains on the logits
 * below it (stable cross-entropy), a downloaded model predicts probabilities; an autoencoder likewise with `sigmoid`.
 */
import { type Layout, layout } from './layout.ts'
import type { ContrastiveSpec, ModelSpec, RunSpec } from './run-spec.ts'
import { elementsOf } from './shape.ts'
import { bitmapOutputs, dense, flatten, frozen, layersOf, normal } from './templates.ts'
import { fixedLayoutOf, layoutOf, sequential, type Topology } from './topology.ts'

export const ACTIVATIONS = ['relu', 'tanh', 'sigmoid', 'elu'] as const

/** What is minimised. Each objective has a loss, and some a second measure that is summed beside it. */
export type Objective =
  /** Softmax cross-entropy of the label, nats; counts hits. The topology ends in an Activation layer softmax. */
  | { kind: 'classify' }
  /**
   * Cross-entropy of the output against the input itself, summed over its elements; measure: squared error Σ(x − x̂)².
   * The topology ends in an Activation layer sigmoid.
   */
  | { kind: 'reconstruct' }
  /**
   * Contrastive divergence CD-k (Hinton 2002) of the RBM whose weights are the topology's last Dense layer, kernel
   * [visible, hidden], with a further slot `<layer>/visible_bias` in the layout; the layers below it are fixed. Loss:
   * the reconstruction error Σ(v − v₁)². Measure: the free energy F(v). `persistent`: PCD, chains that go on from step
   * to step on the volunteer. `visible`: what a chain's visible units are, σ(hWᵀ + a) or samples of it. `hidden`:
   * sigmoid (binary) units, or gaussian ones of unit variance. `labels`: so many of the visible units, the last, are
   * the example's label, one of them on: a softmax group. A test then takes an example for the class with the lowest
   * free energy, p(y | v) ∝ e^−F(v, y) (ALGORITHMS §2.4).
   */
  | {
      kind: 'contrastive'
      steps: number
      persistent: boolean
      visible: 'probabilities' | 'samples'
      hidden: 'sigmoid' | 'gaussian'
      labels: number
    }

/** Whether a test takes each example for a class. */
export const classifies = (objective: Objective): boolean =>
  objective.kind === 'classify' || (objective.kind === 'contrastive' && objective.labels > 0)

/** Whether the last stage of such a model classifies: of RBMs only where the top one sees the labels. */
export const endsInClasses = (spec: ModelSpec): boolean =>
  spec.template === 'rbm' ? spec.labels : spec.template !== 'autoencoder'

/** Random changes of every training example, drawn on the volunteer from the example's key. */
export interface Augmentation {
  /** At most so many pixels each way. */
  readonly shift: number
  /** At most so many degrees each way. */
  readonly rotate: number
  /** Scaled by 1 ± so much. */
  readonly zoom: number
  /** Mirrored left to right half of the time. */
  readonly flip: boolean
}

/** Parameters that are not trained: those of the topology's layers with `trainable: false`, flat, in their order. */
export interface Fixed {
  readonly layout: Layout
  readonly values: Float32Array
}

export interface Model {
  readonly topology: Topology
  /** Of the trained parameters. */
  readonly layout: Layout
  readonly fixed: Fixed | null
  /** One example's shape, without the batch: [28, 28, 1]. */
  readonly inputShape: readonly number[]
  readonly classes: number
  readonly objective: Objective
  readonly augment: Augmentation | null
}

/** The blob that a lease names: the model as JSON, its fixed parameters as a blob of their own (f32, little endian). */
export type ModelBlob = Omit<Model, 'fixed'> & {
  readonly fixed: { readonly hash: string; readonly layout: Layout } | null
}

/** What a model must fit: one example's shape, and the number of classes. */
export interface Shape {
  readonly inputShape: readonly number[]
  readonly classes: number
}

/**
 * Builds the network of a RunSpec, to be trained as a whole: a classifier, or an autoencoder. Of template rbm it is the
 * up-pass of the whole stack, which only measures and exports use: its layers are trained one by one (`buildRbm`).
 * Throws where it does not fit, saying which layer and why.
 */
export function buildModel(spec: ModelSpec, shape: Shape, augment: Augmentation | null): Model {
  const { inputShape, classes } = shape
  const topology = sequential(spec.template, layersOf(spec, shape), inputShape)
  const fixed = fixedLayoutOf(topology)
  return {
    topology,
    layout: layoutOf(topology),
    // Classic LeNet-5's outputs: the one template with fixed parameters.
    fixed: fixed && { layout: fixed, values: bitmapOutputs(classes) },
    inputShape,
    classes,
    objective: objectiveOf(spec),
    augment,
  }
}

function objectiveOf(spec: ModelSpec): Objective {
  switch (spec.template) {
    case 'autoencoder':
      return { kind: 'reconstruct' }
    case 'rbm':
      return {
        kind: 'contrastive',
        steps: 1,
        persistent: false,
        visible: 'probabilities',
        hidden: spec.code,
        labels: 0,
      }
    default:
      return { kind: 'classify' }
  }
}

export interface RbmLayer {
  readonly units: number
  readonly hidden: 'sigmoid' | 'gaussian'
  /** Whether it sees the label too. */
  readonly labels: boolean
}

/** Hidden layers that are trained as RBMs, from below; [] where the model has none. */
export function rbmLayers(spec: ModelSpec): RbmLayer[] {
  const stack = (hidden: readonly number[], top: RbmLayer['hidden'], labels = false): RbmLayer[] =>
    hidden.map((units, i) =>
      i === hidden.length - 1 ? { units, hidden: top, labels } : { units, hidden: 'sigmoid', labels: false },
    )
  switch (spec.template) {
    case 'mlp':
      return stack(spec.hidden, 'sigmoid')
    case 'autoencoder':
      return stack(spec.hidden, 'gaussian')
    case 'rbm':
      return stack(spec.hidden, spec.code, spec.labels)
    default:
      return []
  }
}

/** Epochs of a layer where the spec names none: the deep autoencoder's of Hinton & Salakhutdinov (2006). */
const LAYER_EPOCHS = 10

/** Passes over the training examples of each RBM; of a stack alone they are the run's. */
export const layerEpochs = ({ model, pretrain, stop }: RunSpec): number =>
  pretrain?.epochs ?? (model.template === 'rbm' ? stop.epochs : LAYER_EPOCHS)

/** The tensors of the `layer`-th RBM, from 0, in the order in which they lie. */
export const rbmTensors = (layer: number, visible: number, hidden: number, initial: number) => {
  const name = (tensor: string) => `rbm_${layer + 1}/${tensor}`
  return [
    { name: name('kernel'), shape: [visible, hidden], init: { kind: 'normal', sd: initial } },
    { name: name('bias'), shape: [hidden], init: { kind: 'zeros' } },
    { name: name('visible_bias'), shape: [visible], init: { kind: 'zeros' } },
  ] as const
}

/**
 * The `layer`-th RBM (from 0) of the stack, on the fixed layers below it: `lower` is their parameters (kernel, bias,
 * …), flat, null for the first. Its layout: rbm_<n>/kernel [visible, hidden], /bias [hidden], /visible_bias [visible],
 * where a machine that sees labels has their units after the others, which the topology cannot say; weights begin at
 * N(0, initial²), biases at zero (rbm.m, ALGORITHMS §2.2).
 */
export function buildRbm(
  spec: ModelSpec,
  layer: number,
  { inputShape, classes }: Shape,
  lower: Float32Array | null,
  { steps, persistent, visible: visibleUnits, initial }: ContrastiveSpec,
): Model {
  const stack = rbmLayers(spec)
  if (!Number.isInteger(layer) || layer < 0 || layer >= stack.length) {
    throw new Error(`invariant: template ${spec.template} has RBMs 0 to ${stack.length - 1}, not ${layer}`)
  }
  const { units, hidden, labels } = stack[layer]
  const below = stack.slice(0, layer).map(({ units }, i) => frozen(dense(`rbm_${i + 1}`, units, 'sigmoid')))
  const name = `rbm_${layer + 1}`
  const top = dense(name, units, hidden === 'gaussian' ? 'linear' : 'sigmoid', { kernel_initializer: normal(initial) })
  const topology = sequential(name, [...flatten(inputShape), ...below, top], inputShape)
  const fixed = fixedLayoutOf(topology)
  if ((fixed?.size ?? 0) !== (lower?.length ?? 0)) {
    throw new Error(`invariant: below RBM ${layer} lie ${fixed?.size ?? 0} parameters, not ${lower?.length ?? 0}`)
  }
  const labelUnits = labels ? classes : 0
  const visible = (layer === 0 ? elementsOf(inputShape) : stack[layer - 1].units) + labelUnits
  return {
    topology,
    layout: layout(rbmTensors(layer, visible, units, initial)),
    fixed: fixed && lower && { layout: fixed, values: lower },
    inputShape,
    classes,
    objective: { kind: 'contrastive', steps, persistent, visible: visibleUnits, hidden, labels: labelUnits },
    augment: null,
  }
}
