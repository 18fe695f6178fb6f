/**
 * The RunSpec: everything an operator says about a run, as plain data. `parseRunSpec` fills in defaults and refuses
 * what cannot work, naming the field and what was expected.
 */
import { z } from 'zod'
import { ACTIVATIONS, buildModel } from './models.ts'

export const CODECS = ['f32', 'f16', 'int8'] as const
export type CodecName = (typeof CODECS)[number]

export const DATASETS = ['mnist'] as const
export type DatasetName = (typeof DATASETS)[number]

/** One example's shape and the number of classes, by dataset: what a model must fit. */
const SHAPES: Record<DatasetName, { inputShape: number[]; classes: number }> = {
  mnist: { inputShape: [28, 28, 1], classes: 10 },
}
/** Floats of the largest model that is taken: 256 MB, several times over with its optimizer's state and versions. */
export const PARAMETERS_MAX = 1 << 26

const positive = z.number().positive()
const count = z.int().min(1)
const activation = z.enum(ACTIVATIONS).default('relu')

const model = z.discriminatedUnion('template', [
  z.strictObject({ template: z.literal('softmax') }),
  z.strictObject({
    template: z.literal('mlp'),
    hidden: z.array(z.int().min(1).max(16384)).min(1).max(16).default([256, 128]),
    activation,
  }),
  z.strictObject({ template: z.literal('lenet'), activation }),
])

/** How the server's rate moves over the run's planned examples: from `rate` to `rate·final`. */
const schedule = z.strictObject({
  shape: z.enum(['constant', 'linear', 'cosine']).default('constant'),
  final: z.number().min(0).max(1).default(0),
})

const updateRule = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('sgd'), rate: positive.default(0.1) }),
  z.strictObject({
    name: z.literal('momentum'),
    rate: positive.default(0.02),
    momentum: z.number().min(0).lt(1).default(0.9),
  }),
  /** γ of DistBelief §4.1; `initial` starts every sum of squares, so the first step does not move γ in every coordinate. */
  z.strictObject({
    name: z.literal('adagrad'),
    rate: positive.default(0.02),
    epsilon: positive.default(1e-8),
    initial: z.number().min(0).default(0.1),
  }),
  z.strictObject({
    name: z.literal('adam'),
    rate: positive.default(0.001),
    beta1: z.number().min(0).lt(1).default(0.9),
    beta2: z.number().min(0).lt(1).default(0.999),
    epsilon: positive.default(1e-8),
    /** Decoupled weight decay (AdamW, Loshchilov & Hutter 2019); 0 is Adam. */
    weightDecay: z.number().min(0).default(0),
  }),
])

const strategy = z.discriminatedUnion('name', [
  /** Downpour SGD (Dean et al. 2012, §4.1 and appendix Alg. 1.1). */
  z.strictObject({
    name: z.literal('downpour'),
    batchSize: z.int().min(1).max(8192).default(64),
    /** n_push: minibatches whose gradients accrue before a push. A lease is at most this many. */
    pushEvery: z.int().min(1).max(10000).default(8),
    /** n_fetch: minibatches between fetches of the parameters; a whole multiple of pushEvery. */
    fetchEvery: z.int().min(1).max(10000).optional(),
    /** α of the replica's own steps between fetches; null follows the server's current rate (rule sgd) or is 0. */
    localRate: z.number().min(0).nullable().default(null),
    /** Updates folded from one volunteer alone before the others are released by doubling (1, 2, 4, …). */
    warmStart: z.int().min(0).default(0),
    /** An update whose base version is older than this many versions is refused. */
    maxStaleness: z.int().min(0).default(1000),
  }),
  /** Synchronous minibatch SGD: portions of one batch at one version, summed in order. */
  z.strictObject({
    name: z.literal('synchronous'),
    batchSize: z.int().min(1).max(65536).default(256),
    /** Examples in one lease; the last portion of a batch may be shorter. */
    portionSize: z.int().min(1).max(65536).default(64),
  }),
])

const runSpec = z
  .strictObject({
    name: z.string().min(1).max(120).default('Untitled run'),
    dataset: z.strictObject({
      name: z.enum(DATASETS),
      /** Use only the first so many training / test examples; all when absent. */
      train: count.optional(),
      test: count.optional(),
    }),
    model,
    strategy: strategy.prefault({ name: 'downpour' }),
    updateRule: updateRule.prefault({ name: 'adagrad' }),
    schedule: schedule.prefault({}),
    /** `up` for updates, `down` for parameters. */
    codec: z
      .strictObject({ up: z.enum(CODECS).default('int8'), down: z.enum(['f32', 'f16']).default('f32') })
      .prefault({}),
    stop: z.strictObject({
      /** Passes over the training examples. */
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
  .superRefine((spec, context) => {
    const { strategy } = spec
    if (
      strategy.name === 'downpour' &&
      strategy.fetchEvery !== undefined &&
      strategy.fetchEvery % strategy.pushEvery !== 0
    ) {
      context.addIssue({
        code: 'custom',
        path: ['strategy', 'fetchEvery'],
        message: `expected a whole multiple of pushEvery (${strategy.pushEvery}), got ${strategy.fetchEvery}`,
      })
    }
    if (strategy.name === 'synchronous' && strategy.portionSize > strategy.batchSize) {
      context.addIssue({
        code: 'custom',
        path: ['strategy', 'portionSize'],
        message: `expected at most batchSize (${strategy.batchSize}), got ${strategy.portionSize}`,
      })
    }
    const { inputShape, classes } = SHAPES[spec.dataset.name]
    const { size } = buildModel(spec.model, inputShape, classes).layout
    if (size > PARAMETERS_MAX) {
      context.addIssue({
        code: 'custom',
        path: ['model'],
        message: `expected a model of at most ${PARAMETERS_MAX} parameters, got ${size}`,
      })
    }
  })

export type RunSpec = z.infer<typeof runSpec>
export type UpdateRuleSpec = RunSpec['updateRule']
export type StrategySpec = RunSpec['strategy']
export type DownpourSpec = Extract<StrategySpec, { name: 'downpour' }>
export type SynchronousSpec = Extract<StrategySpec, { name: 'synchronous' }>

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

/** zod's issue in words for the operator: what was expected, what came. */
function problem(issue: z.core.$ZodIssue, given: unknown): string {
  const expected = (what: string) => `expected ${what}, got ${shown(given)}`
  const units = (origin: string, n: number | bigint) =>
    origin === 'array' ? ` item${n === 1 ? '' : 's'}` : origin === 'string' ? ` character${n === 1 ? '' : 's'}` : ''
  switch (issue.code) {
    case 'invalid_type':
      return expected(TYPES[issue.expected] ?? issue.expected)
    case 'invalid_value':
      return expected(choice(issue.values.map(String)))
    case 'invalid_union':
      return 'options' in issue && Array.isArray(issue.options)
        ? expected(choice(issue.options.map(String)))
        : issue.message
    case 'too_small':
      return expected(
        `${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}${units(issue.origin, issue.minimum)}`,
      )
    case 'too_big':
      return expected(
        `${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}${units(issue.origin, issue.maximum)}`,
      )
    default:
      return issue.message
  }
}

const TYPES: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
}

const choice = (options: readonly string[]) => (options.length === 1 ? options[0] : `one of ${options.join(', ')}`)

function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}…` : text
}
