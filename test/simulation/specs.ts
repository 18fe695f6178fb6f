/** The runs of a story: every strategy, policy, update rule, codec and kind of stage that a spec allows, in small. */
import { CODECS } from '../../shared/codec-names.ts'
import { parseRunSpec, type RunSpec, type SpecProblem } from '../../shared/run-spec.ts'
import type { Draws } from './draws.ts'
import { SHARD_EXAMPLES } from './examples.ts'

type Kind = RunSpec['strategy']['name'] | 'stack'

export function drawSpec(draws: Draws, index: number): RunSpec {
  const kind = draws.pick<Kind>([
    ...(['downpour', 'downpour', 'downpour', 'downpour', 'synchronous', 'synchronous'] as const),
    ...(['gradient-descent', 'gradient-descent', 'sandblaster', 'sandblaster', 'stack', 'stack', 'stack'] as const),
  ])
  const drawn = {
    name: `simulated ${index}`,
    // More test examples than one lease of an evaluation holds, sometimes.
    dataset: { name: 'mnist', train: draws.whole(20, 20 * SHARD_EXAMPLES), test: draws.pick([10, 100, 2501, 7000]) },
    ...(kind === 'stack' ? drawStack(draws) : drawWhole(draws, kind)),
    leaseSeconds: draws.magnitude(0.05, 15),
    checkpointEvery: draws.whole(1, 12),
    journal: draws.pick(['everything', 'since-checkpoint']),
    seed: draws.whole(0, 1000),
  }
  const refused = parseRunSpec(drawn)
  // What has no effect beside the rest is refused, and left out here.
  const parsed = refused.ok ? refused : parseRunSpec(refused.problems.reduce(without, drawn))
  if (!parsed.ok) throw new Error(`invariant: a drawn spec is bad: ${JSON.stringify(parsed.problems)}`)
  return parsed.spec
}

function without<Spec extends object>(spec: Spec, { field }: SpecProblem): Spec {
  const copy = structuredClone(spec)
  const path = field.split('.')
  const last = path.pop()!
  const inside = path.reduce<Record<string, unknown>>(
    (object, key) => object[key] as Record<string, unknown>,
    copy as Record<string, unknown>,
  )
  delete inside[last]
  return copy
}

/** One stage: the whole network is trained. */
function drawWhole(draws: Draws, kind: Exclude<Kind, 'stack'>) {
  const model = draws.pick([
    { template: 'softmax' },
    { template: 'mlp', hidden: [4] },
    { template: 'mlp', hidden: [3, 2], activation: 'sigmoid' },
    { template: 'autoencoder', hidden: [3, 2] },
  ])
  const sums = kind === 'gradient-descent' || kind === 'sandblaster'
  return {
    model,
    ...(sums ? drawPasses(draws, kind) : drawTraining(draws, drawStrategy(draws, kind), CODECS)),
    stop: {
      epochs: draws.whole(1, sums ? 6 : 4),
      ...(model.template !== 'autoencoder' && draws.chance(0.15) ? { accuracy: 0.4 } : {}),
    },
    ...(!sums && draws.chance(0.2) ? { maxNorm: draws.magnitude(0.3, 3) } : {}),
  }
}

/** A stack of RBMs, one stage each, and for most of them the network above it. */
function drawStack(draws: Draws) {
  const model = draws.pick([
    // Two layers of one size, too: an update of the one would fit the other.
    {
      template: 'rbm',
      hidden: draws.pick([[3], [3, 2], [4, 4]]),
      code: draws.pick(['sigmoid', 'gaussian']),
      labels: draws.chance(0.3),
    },
    {
      template: 'mlp',
      hidden: draws.pick([
        [3, 2],
        [4, 4],
      ]),
      activation: 'sigmoid',
    },
    { template: 'autoencoder', hidden: [3, 2] },
  ])
  const pretrain = {
    ...drawTraining(draws, drawStrategy(draws, draws.pick(['synchronous', 'downpour'])), CODECS),
    epochs: draws.whole(1, 3),
    gaussianRate: draws.magnitude(0.0001, 0.01),
    gapChecks: draws.pick([0, 1, 1, 2]),
  }
  // Of a stack alone nothing else is trained.
  if (model.template === 'rbm') return { model, pretrain, stop: { epochs: 1 } }
  const kind = draws.pick(['downpour', 'synchronous', 'gradient-descent', 'sandblaster'] as const)
  return { ...drawWhole(draws, kind), model, pretrain, stop: { epochs: draws.whole(1, 2) } }
}

/** Whole passes are summed exactly, and the strategy makes steps of its own. */
function drawPasses(draws: Draws, kind: 'gradient-descent' | 'sandblaster') {
  const { strategy, evaluateEveryEpochs } = drawTraining(draws, drawStrategy(draws, kind), ['f32', 'f32', 'f16'])
  return { strategy, evaluateEveryEpochs }
}

function drawTraining(draws: Draws, strategy: object, codecs: readonly string[]) {
  const name = draws.pick(['sgd', 'momentum', 'delayed-nesterov', 'adagrad', 'adam'] as const)
  const cost = name !== 'adagrad' && name !== 'adam'
  const early = { momentum: 0.5, epochs: draws.pick([0.5, 1]) }
  return {
    strategy,
    updateRule: {
      ...{ name, rate: draws.magnitude(0.001, 0.05) },
      ...(cost && draws.chance(0.4) ? { weightCost: draws.magnitude(0.0001, 0.1) } : {}),
      ...(name === 'momentum' && draws.chance(0.5) ? { early } : {}),
      ...(name === 'delayed-nesterov' ? { delay: draws.whole(1, 5) } : {}),
    },
    schedule: {
      shape: draws.pick(['constant', 'linear', 'cosine']),
      final: draws.pick([0, 0.1, 1]),
      hold: draws.pick([0, 0, 0.3]),
    },
    codec: { up: draws.pick(codecs), down: draws.pick(['f32', 'f16']) },
    evaluateEveryEpochs: draws.pick([0, 0.25, 1, 1.5]),
  }
}

function drawStrategy(draws: Draws, name: Exclude<Kind, 'stack'>) {
  const batchSize = draws.whole(1, 12)
  switch (name) {
    case 'downpour':
      return drawDownpour(draws, batchSize)
    case 'synchronous':
      return { name, batchSize: batchSize * draws.whole(1, 6), portionSize: draws.whole(1, batchSize) }
    case 'gradient-descent':
      return {
        ...{ name, batchSize, portionSize: draws.whole(5, 60) },
        updater: draws.pick(['simple', 'squared-l2', 'l1']),
        // The last three are too much, by a little and by far.
        rate: draws.pick([0.05, 0.2, 0.2, 0.4, 1, 3, 1e3]),
        decay: draws.pick(['sqrt', 'none']),
        regularization: draws.pick([0, 0.01, 0.3]),
        // Of few examples some samples are empty.
        fraction: draws.pick([1, 1, 0.5, 0.1, 0.003]),
        tolerance: draws.pick([0, 0.001, 0.3]),
      }
    case 'sandblaster':
      return {
        ...{ name, batchSize, portionSize: draws.whole(5, 60) },
        memory: draws.pick([1, 3, 10]),
        tolerance: draws.pick([0, 1e-6, 1e-2]),
        l2: draws.pick([0, 0, 0.01]),
        average: draws.pick(['examples', 'blocks']),
        backups: draws.chance(0.7),
      }
  }
}

function drawDownpour(draws: Draws, batchSize: number) {
  const pushEvery = draws.whole(1, 4)
  const drawn = {
    ...{ name: 'downpour', batchSize, pushEvery },
    ...(draws.chance(0.4) ? { fetchEvery: pushEvery * draws.whole(1, 4) } : {}),
    localRate: draws.pick([null, 0, 0.01]),
    warmStart: draws.pick([0, 0, 1, 3, 8]),
    maxStaleness: draws.pick([0, 1, 3, 10, 64]),
    policy: {
      weight: draws.pick([
        { name: 'none' },
        { name: 'inverse' },
        { name: 'power' },
        { name: 'power', exponent: 0.7 },
        { name: 'hinge', slope: 0.5, from: 1 },
      ]),
      ...(draws.chance(0.3) ? { compensation: { lambda: draws.pick([0.5, 2]), decay: draws.pick([null, 0.95]) } } : {}),
      buffer: draws.pick([1, 1, 1, 2, 3, 5]),
      bound: draws.pick([
        { name: 'none' },
        { name: 'none' },
        { name: 'stale-synchronous', clocks: draws.whole(0, 3) },
        { name: 'bounded-delay', delay: draws.whole(0, 4) },
      ]),
    },
  }
  const may = drawn.fetchEvery === undefined && drawn.maxStaleness > 0 && drawn.policy.bound.name === 'none'
  return { ...drawn, overlap: may && pushEvery > 1 }
}
