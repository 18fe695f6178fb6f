/**
 * The RunSpec: everything an operator says about a run, as plain data. `parseRunSpec` fills in defaults and refuses
 * what cannot work, naming the field and what was expected.
 */
import { z } from 'zod'
import { CODECS } from './codec-names.ts'
import { contradictions } from './contradictions.ts'
import { ACTIVATIONS } from './models.ts'
import { problem } from './spec-problem.ts'
import { positive, strategy, updateRule } from './strategy-spec.ts'
import { takesWholePasses } from './whole-passes.ts'

export type {
  DownpourSpec,
  GradientDescentSpec,
  PolicySpec,
  SandblasterSpec,
  StrategySpec,
  SynchronousSpec,
  UpdateRuleSpec,
} from './strategy-spec.ts'

const count = z.int().min(1)
const share = z.number().min(0).lt(1)

/** What of a dataset is used. */
const use = {
  /** Use only the first so many training / test examples; all when absent. */
  train: count.optional(),
  test: count.optional(),
  /** Keep the last so many training examples out and test on them instead: to choose settings without the test set. */
  validate: count.optional(),
}
const dataset = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('mnist'), ...use }),
  /** IDX files, gzip-compressed or not, as Debian's package dataset-fashion-mnist installs them. */
  z.strictObject({
    name: z.literal('fashion-mnist'),
    folder: z.string().min(1).default('/usr/share/datasets/fashion-mnist'),
    ...use,
  }),
  /** Any IDX files of unsigned bytes on the coordinator's machine, gzip-compressed or not. */
  z.strictObject({
    name: z.literal('idx'),
    trainInputs: z.string().min(1),
    testInputs: z.string().min(1),
    /** One class index an example; only what classifies needs them, or learns images and labels together. */
    trainLabels: z.string().min(1).optional(),
    testLabels: z.string().min(1).optional(),
    ...use,
  }),
])

const activation = z.enum(ACTIVATIONS)
const units = z.int().min(1).max(16384)
const hidden = z.array(units).min(1).max(16)

const model = z.discriminatedUnion('template', [
  z.strictObject({ template: z.literal('softmax') }),
  /** Dense layers. `initializer` spark: U(-2.4, 2.4)/fanIn for weights and biases (MultilayerPerceptronClassifier). */
  z.strictObject({
    template: z.literal('mlp'),
    hidden: hidden.default([256, 128]),
    activation: activation.default('relu'),
    initializer: z.enum(['glorot', 'spark']).default('glorot'),
    /** Shares of the inputs and of each hidden layer's outputs that are dropped (Srivastava et al. 2014). */
    dropout: z.strictObject({ input: share.default(0), hidden: share.default(0) }).prefault({}),
  }),
  /** LeNet-5 (LeCun et al. 1998): `classic` with trainable subsampling, C3's table and RBF outputs, or `modern`. */
  z.strictObject({
    template: z.literal('lenet'),
    form: z.enum(['modern', 'classic']).default('modern'),
    /** When absent relu; the classic form is tanh throughout. */
    activation: activation.optional(),
  }),
  /** Blocks of two 3×3 convolutions and a pool, then dense layers; no batch normalisation (ALGORITHMS §5). */
  z.strictObject({
    template: z.literal('cnn'),
    filters: z.array(units).min(1).max(4).default([32, 64]),
    dense: z.array(units).max(4).default([256]),
    activation: activation.default('relu'),
    dropout: z.strictObject({ pool: share.default(0.25), dense: share.default(0.5) }).prefault({}),
  }),
  /** A stack of restricted Boltzmann machines, each trained on the hidden probabilities of the one below. */
  z.strictObject({
    template: z.literal('rbm'),
    hidden,
    /** Units of the top layer: binary, or gaussian with unit variance. */
    code: z.enum(['sigmoid', 'gaussian']).default('sigmoid'),
    /**
     * The top layer sees, beside the features below it, a unit for each class, of which the label's is on: it learns
     * images and labels together, and tells the class by its free energy (Hinton, Osindero & Teh 2006).
     */
    labels: z.boolean().default(false),
  }),
  /** Encoder of these layers, the last one linear, and its mirror image (Hinton & Salakhutdinov 2006). */
  z.strictObject({ template: z.literal('autoencoder'), hidden: hidden.default([1000, 500, 250, 30]) }),
])

/** How the server's rate moves over the stage's planned examples: from `rate` to `rate·final`. */
const schedule = z.strictObject({
  shape: z.enum(['constant', 'linear', 'cosine']).default('constant'),
  final: z.number().min(0).max(1).default(0),
  /** The first share of the examples, over which the rate stays as it is. */
  hold: share.default(0),
})

/** Contrastive divergence (Hinton 2002; PCD: Tieleman 2008). */
const contrastive = z.strictObject({
  /** k of CD-k. */
  steps: z.int().min(1).max(1000).default(1),
  /** PCD: chains that go on from step to step; without, they begin at the data. */
  persistent: z.boolean().default(false),
  /** Visible units within a chain: as rbm.m has them, or sampled, so that with k the estimate tends to the gradient. */
  visible: z.enum(['probabilities', 'samples']).default('probabilities'),
  /** Standard deviation of the first weights. */
  initial: positive.default(0.1),
})

const codec = z.strictObject({ up: z.enum(CODECS).default('int8'), down: z.enum(['f32', 'f16']).default('f32') })

/**
 * The published schedule of rbm.m, but for `epochs`, of which the deep autoencoder's script has 10 and the classifier's
 * 50. Two portions a batch, so that two volunteers can share it.
 */
const RBM_STRATEGY = { name: 'synchronous', batchSize: 100, portionSize: 50 } as const
const RBM_RULE = { name: 'momentum', rate: 0.1, momentum: 0.9, early: {}, weightCost: 0.0002 } as const

/** Greedy pre-training of a network's dense layers as a stack of RBMs, one stage each, before it is fine-tuned. */
const pretrain = z.strictObject({
  /** Passes over the training examples for each layer; 10, or with template rbm those of `stop`. */
  epochs: z.int().min(1).max(100000).optional(),
  contrastive: contrastive.prefault({}),
  strategy: strategy.prefault(RBM_STRATEGY),
  updateRule: updateRule.prefault(RBM_RULE),
  /** The rate of a gaussian code layer, which larger ones destroy. */
  gaussianRate: positive.default(0.001),
  schedule: schedule.prefault({}),
  /** Measured: the published reconstruction errors come out the same with these as with f32. */
  codec: codec.prefault({ up: 'int8', down: 'f16' }),
  evaluateEveryEpochs: z.number().min(0).default(1),
  /**
   * Ends a layer when the free-energy gap between held-out and training examples has grown in so many tests; 0 never.
   */
  gapChecks: z.int().min(0).default(0),
})

const fields = z.strictObject({
  name: z.string().min(1).max(120).default('Untitled run'),
  dataset,
  model,
  /** Stages before `train`; with template rbm they are the whole run, and are filled in when absent. */
  pretrain: pretrain.optional(),
  augment: z
    .strictObject({
      shift: z.number().min(0).max(14).default(0),
      rotate: z.number().min(0).max(180).default(0),
      zoom: share.default(0),
      flip: z.boolean().default(false),
    })
    .optional(),
  /** Longest vector of weights into one unit: what a step makes longer is scaled back (Srivastava et al. 2014). */
  maxNorm: positive.optional(),
  strategy: strategy.prefault({ name: 'downpour' }),
  updateRule: updateRule.prefault({ name: 'adagrad' }),
  schedule: schedule.prefault({}),
  /** `up` for updates, `down` for parameters. */
  codec: codec.prefault({}),
  stop: z.strictObject({
    /** Passes over the training examples; iterations of gradient-descent and sandblaster. */
    epochs: z.int().min(1).max(100000),
    /** Stop earlier when the evaluated test accuracy (0..1) reaches this. */
    accuracy: z.number().gt(0).max(1).optional(),
  }),
  /** Evaluate on the test examples every so many epochs, and at the end; 0 only at the end. */
  evaluateEveryEpochs: z.number().min(0).default(1),
  /** The time box of one lease on the volunteer that gets it, in seconds of compute. */
  leaseSeconds: z.number().min(0.05).max(600).default(15),
  /** Accepted updates between checkpoints, at most. */
  checkpointEvery: count.default(1000),
  /** What the journal keeps: every update's bytes, or those since the last checkpoints. */
  journal: z.enum(['everything', 'since-checkpoint']).default('since-checkpoint'),
  seed: z.int().min(0).default(1),
})
export type RunSpec = z.infer<typeof fields>

const BY_DEFAULT = fields.parse({ dataset: { name: 'mnist' }, model: { template: 'softmax' }, stop: { epochs: 1 } })

/** The defaults that depend on what else was said. What is no spec comes back as it is, to be refused. */
function filledIn(value: unknown): unknown {
  if (!isObject(value)) return value
  const { model, strategy, pretrain, codec = {} } = value
  const whole: Record<string, unknown> = { ...value }
  if (isObject(model) && model.template === 'rbm' && pretrain === undefined) whole.pretrain = {}
  // A line search compares losses of neighbouring points, and a test of convergence two steps: rounding would end both.
  const exact = isObject(strategy) && takesWholePasses(strategy)
  if (exact && isObject(codec) && codec.up === undefined) whole.codec = { ...codec, up: 'f32' }
  return whole
}
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const runSpec = z.preprocess(
  filledIn,
  fields.superRefine((spec, context) => {
    for (const { path, message } of contradictions(spec, BY_DEFAULT))
      context.addIssue({ code: 'custom', path, message })
  }),
)

export type DatasetSpec = RunSpec['dataset']
export type ModelSpec = RunSpec['model']
export type PretrainSpec = NonNullable<RunSpec['pretrain']>
export type ContrastiveSpec = PretrainSpec['contrastive']

/** One thing wrong with a RunSpec: `field` as a dotted path, `message` says what was expected. */
export interface SpecProblem {
  field: string
  message: string
}

export type ParsedRunSpec = { ok: true; spec: RunSpec } | { ok: false; problems: SpecProblem[] }

export function parseRunSpec(value: unknown): ParsedRunSpec {
  const parsed = runSpec.safeParse(value)
  if (parsed.success) return { ok: true, spec: parsed.data }
  // One problem a field, the last: where zod names two limits, the later is the narrower.
  const messages = new Map<string, string>()
  for (const issue of parsed.error.issues) {
    const path = issue.path.map(String)
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) {
        messages.set([...path, key].join('.'), 'there is no such field: check its spelling, or remove it')
      }
    } else {
      const given = path.reduce<unknown>((inside, key) => (inside as Record<string, unknown> | undefined)?.[key], value)
      messages.set(path.join('.') || '(the whole spec)', problem(issue, given))
    }
  }
  return { ok: false, problems: [...messages].map(([field, message]) => ({ field, message })) }
}
