/** Settings of a RunSpec that would change nothing: whoever wrote them believes otherwise, and is told what would. */
import { layerEpochs } from './models.ts'
import type { RunSpec } from './run-spec.ts'
import type { Contradiction } from './spec-problem.ts'
import type { StrategySpec } from './strategy-spec.ts'

/** What is said of one stage, and where. */
interface Said {
  readonly path: string[]
  readonly strategy: StrategySpec
  readonly schedule: RunSpec['schedule']
  readonly epochs: number
}

export function withoutEffect(spec: RunSpec): Contradiction[] {
  const { stop, pretrain, evaluateEveryEpochs } = spec
  const stages: Said[] = [{ ...spec, path: [], epochs: stop.epochs }]
  if (pretrain) stages.push({ ...pretrain, path: ['pretrain'], epochs: layerEpochs(spec) })
  const found = stages.flatMap((stage) => [
    ...ofConstantRate(stage),
    ...ofUpdater(stage),
    ...ofFreshUpdates(stage),
    ...ofBuffer(stage, examplesOf(spec.dataset)),
    ...ofSample(stage, examplesOf(spec.dataset)),
  ])
  const untested = 'needs tests on the way: let evaluateEveryEpochs be more than 0, or remove'
  const tested = spec.model.template === 'rbm' ? pretrain?.evaluateEveryEpochs : evaluateEveryEpochs
  if (stop.accuracy !== undefined && tested === 0) {
    found.push({ path: ['stop', 'accuracy'], message: `it ${untested} stop.accuracy` })
  }
  if (pretrain && pretrain.gapChecks > 0 && pretrain.evaluateEveryEpochs === 0) {
    found.push({ path: ['pretrain', 'gapChecks'], message: `it ${untested} gapChecks` })
  }
  return found
}

function ofConstantRate({ schedule, path }: Said): Contradiction[] {
  if (schedule.shape !== 'constant') return []
  const said = (['final', 'hold'] as const).filter((field) => schedule[field] !== 0)
  return said.map((field) => ({
    path: [...path, 'schedule', field],
    message: `shape constant leaves the rate as it is: write shape linear or cosine, or remove ${field}`,
  }))
}

function ofUpdater({ strategy, path }: Said): Contradiction[] {
  if (strategy.name !== 'gradient-descent' || strategy.updater !== 'simple' || strategy.regularization === 0) return []
  const message = 'updater simple does not regularize: write updater squared-l2 or l1, or remove regularization'
  return [{ path: [...path, 'strategy', 'regularization'], message }]
}

/** Where every update is computed at the newest version there is no staleness to do anything about. */
function ofFreshUpdates({ strategy, path }: Said): Contradiction[] {
  if (strategy.name !== 'downpour' || strategy.maxStaleness > 0) return []
  const { compensation, weight } = strategy.policy
  const said = [...(compensation ? ['compensation'] : []), ...(weight.name === 'none' ? [] : ['weight'])]
  return said.map((field) => ({
    path: [...path, 'strategy', 'policy', field],
    message: `with maxStaleness 0 no update is stale: let maxStaleness be 1 or more, or remove policy.${field}`,
  }))
}

/**
 * A buffer that is not full before the stage ends, though every minibatch were an update, makes one step of all of it.
 */
function ofBuffer({ strategy, epochs, path }: Said, examples: number | null): Contradiction[] {
  if (strategy.name !== 'downpour' || strategy.policy.buffer === 1 || examples === null) return []
  const { batchSize, policy } = strategy
  const updates = Math.ceil((epochs * examples) / batchSize)
  if (policy.buffer <= updates) return []
  const message =
    `${epochs} epochs of ${examples} examples are ${updates} minibatches of ${batchSize}, ` +
    `which never fill the buffer: lower it to ${updates} or less`
  return [{ path: [...path, 'strategy', 'policy', 'buffer'], message }]
}

/** A sample that holds no example makes no step. */
function ofSample({ strategy, path }: Said, examples: number | null): Contradiction[] {
  if (strategy.name !== 'gradient-descent' || examples === null || strategy.fraction >= 1 / examples) return []
  const message =
    `of ${examples} examples a sample holds ${(strategy.fraction * examples).toPrecision(2)} on average, often none: ` +
    `write at least ${1 / examples}`
  return [{ path: [...path, 'strategy', 'fraction'], message }]
}

/** Training examples; null where only the files say. */
function examplesOf(dataset: RunSpec['dataset']): number | null {
  const { name, train, validate = 0 } = dataset
  return train ?? (name === 'idx' ? null : 60_000 - validate)
}
