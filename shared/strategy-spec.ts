/**
 * The part of a RunSpec that says how a stage learns: which work goes out and how what comes back is folded in, what is
 * done about staleness, and the update rule. Every setting has its source beside it.
 */
import { z } from 'zod'

/** Kernels compute in float32: what is smaller than its smallest normal number is 0 there, what is larger infinite. */
const [SMALLEST, LARGEST] = [2 ** -126, (2 - 2 ** -23) * 2 ** 127]
/** Of two limits the later is told, see parseRunSpec. */
export const positive = z.number().min(SMALLEST).max(LARGEST).positive()
const atLeastZero = z.number().max(LARGEST).min(0)
const share = z.number().min(0).lt(1)

/** λ: adds λ·w to the gradient of every kernel (not of biases). */
const weightCost = atLeastZero.default(0)

export const updateRule = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('sgd'), rate: positive.default(0.1), weightCost }),
  z.strictObject({
    name: z.literal('momentum'),
    rate: positive.default(0.02),
    momentum: share.default(0.9),
    /** Another momentum for the first epochs, as rbm.m has it: 0.5 for five. */
    early: z.strictObject({ momentum: share.default(0.5), epochs: z.number().min(0).default(5) }).optional(),
    weightCost,
  }),
  /**
   * Nesterov's momentum for updates that come one by one (Liu et al. 2024, "Asynchronous local-SGD training for
   * language modeling"): each moves at once by its share, and each `delay`-th by the momentum, which the mean of
   * `delay` updates renews. `delay`: about as many as there are volunteers; with 1 it is Nesterov's own.
   */
  z.strictObject({
    name: z.literal('delayed-nesterov'),
    rate: positive.default(0.02),
    momentum: share.default(0.9),
    delay: z.int().min(1).max(4096).default(8),
    weightCost,
  }),
  /**
   * γ of DistBelief §4.1; `initial` starts every sum of squares, so the first step does not move γ in every coordinate.
   */
  z.strictObject({
    name: z.literal('adagrad'),
    rate: positive.default(0.02),
    epsilon: positive.default(1e-8),
    initial: atLeastZero.default(0.1),
  }),
  z.strictObject({
    name: z.literal('adam'),
    rate: positive.default(0.001),
    beta1: z.number().min(0).lt(1).default(0.9),
    beta2: z.number().min(0).lt(1).default(0.999),
    epsilon: positive.default(1e-8),
    /** Decoupled weight decay (AdamW, Loshchilov & Hutter 2019); 0 is Adam. */
    weightDecay: atLeastZero.default(0),
  }),
])

/** What is done about staleness τ: the newest version when an update is folded in, less the one it was started at. */
const policy = z.strictObject({
  /**
   * An update's weight: 1; 1/max(1, τ) (Zhang et al. 2015); (1+τ)^-exponent (FedAsync, FedBuff); 1/(slope·(τ-from)+1)
   * from `from` on.
   */
  weight: z
    .discriminatedUnion('name', [
      z.strictObject({ name: z.literal('none') }),
      z.strictObject({ name: z.literal('inverse') }),
      z.strictObject({ name: z.literal('power'), exponent: positive.default(0.5) }),
      z.strictObject({ name: z.literal('hinge'), slope: positive.default(0.5), from: z.number().min(0).default(4) }),
    ])
    .prefault({ name: 'none' }),
  /**
   * DC-ASGD (Zheng et al. 2017): g + λ·g⊙g⊙(w - w_base). λ is `lambda`, or with `decay` m the adaptive lambda/√MS,
   * MS ← m·MS + (1-m)·g⊙g. Keeps the last maxStaleness versions.
   */
  compensation: z
    .strictObject({ lambda: positive.default(2), decay: z.number().min(0).lt(1).nullable().default(0.95) })
    .optional(),
  /** FedBuff (Nguyen et al. 2022): so many updates are averaged into one step. */
  buffer: z.int().min(1).max(4096).default(1),
  /**
   * Who may run ahead. `stale-synchronous` (Petuum): a volunteer's clock is at most `clocks` ahead of the slowest's.
   * `bounded-delay` (CMU parameter server): a lease begins when all leases more than `delay` before it are in.
   */
  bound: z
    .discriminatedUnion('name', [
      z.strictObject({ name: z.literal('none') }),
      z.strictObject({ name: z.literal('stale-synchronous'), clocks: z.int().min(0).default(3) }),
      z.strictObject({ name: z.literal('bounded-delay'), delay: z.int().min(0).default(8) }),
    ])
    .prefault({ name: 'none' }),
})

export const strategy = z.discriminatedUnion('name', [
  /** Downpour SGD (Dean et al. 2012, §4.1 and appendix Alg. 1.1). */
  z.strictObject({
    name: z.literal('downpour'),
    batchSize: z.int().min(1).max(8192).default(64),
    /** n_push: minibatches whose gradients accrue before a push. A lease is at most this many. */
    pushEvery: z.int().min(1).max(10000).default(8),
    /** n_fetch: minibatches between fetches of the parameters; a whole multiple of pushEvery. */
    fetchEvery: z.int().min(1).max(10000).optional(),
    /** α of the replica's own steps between fetches; null follows the server's current rate (rule sgd) or is 0. */
    localRate: atLeastZero.nullable().default(null),
    /**
     * Push and fetch while the next lease is computed: Alg. 1.1's three threads, `startAsync`. Each lease begins one
     * update of its own volunteer earlier; without it push and fetch are awaited.
     */
    overlap: z.boolean().default(false),
    /** Updates folded from one volunteer alone before the others are released by doubling (1, 2, 4, …). */
    warmStart: z.int().min(0).default(0),
    /** An update whose base version is older than this many versions is refused (Ringmaster ASGD's R - 1). */
    maxStaleness: z.int().min(0).default(1000),
    policy: policy.prefault({}),
  }),
  /** Synchronous minibatch SGD: portions of one batch at one version, summed in order. */
  z.strictObject({
    name: z.literal('synchronous'),
    batchSize: z.int().min(1).max(65536).default(256),
    /** Examples in one lease; the last portion of a batch may be shorter. */
    portionSize: z.int().min(1).max(65536).default(64),
  }),
  /** Spark MLlib's GradientDescent: `stop.epochs` iterations of one step each on a Bernoulli sample of all examples. */
  z.strictObject({
    name: z.literal('gradient-descent'),
    updater: z.enum(['simple', 'squared-l2', 'l1']).default('simple'),
    /** stepSize; the i-th step is rate/√i, or rate with decay `none` (Spark's ANNUpdater). */
    rate: positive.default(1),
    decay: z.enum(['sqrt', 'none']).default('sqrt'),
    /** regParam λ of the updater. */
    regularization: atLeastZero.default(0),
    /** Probability of an example to be in an iteration's sample. */
    fraction: z.number().gt(0).max(1).default(1),
    /** Converged when the weights move by less than this times max(‖w‖, 1); 0 never. */
    tolerance: z.number().min(0).default(0.001),
    portionSize: z.int().min(1).max(65536).default(1000),
    /** Examples that a volunteer computes at once. */
    batchSize: z.int().min(1).max(65536).default(500),
  }),
  /**
   * Sandblaster L-BFGS (Dean et al. 2012, §4.2 and appendix Alg. 1.2) with Breeze's strong-Wolfe search:
   * `stop.epochs` iterations at most, each of one or more passes over all examples in portions.
   */
  z.strictObject({
    name: z.literal('sandblaster'),
    /** m: pairs of steps and gradient differences that are kept. */
    memory: z.int().min(1).max(100).default(10),
    tolerance: z.number().min(0).default(1e-6),
    /** λ of ½λ‖w‖². */
    l2: atLeastZero.default(0),
    /** Not possible with plain L-BFGS; refused with what to write instead. */
    l1: atLeastZero.default(0),
    /**
     * Examples in one lease, rounded down to whole minibatches: small ones balance the load. Nothing else depends on
     * it.
     */
    portionSize: z.int().min(1).max(65536).default(1000),
    batchSize: z.int().min(1).max(65536).default(500),
    /** Weigh examples alike, or blocks of `batchSize` rows alike whatever they hold, as Spark does. */
    average: z.enum(['examples', 'blocks']).default('examples'),
    /** The last portions of a pass are given to several volunteers; the first result counts. */
    backups: z.boolean().default(true),
  }),
])

export type UpdateRuleSpec = z.infer<typeof updateRule>
export type StrategySpec = z.infer<typeof strategy>
export type DownpourSpec = Extract<StrategySpec, { name: 'downpour' }>
export type SynchronousSpec = Extract<StrategySpec, { name: 'synchronous' }>
export type GradientDescentSpec = Extract<StrategySpec, { name: 'gradient-descent' }>
export type SandblasterSpec = Extract<StrategySpec, { name: 'sandblaster' }>
export type PolicySpec = DownpourSpec['policy']
