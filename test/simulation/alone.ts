/**
 * A run as one volunteer alone would have done it, that nothing ever happens to: what the crowd's must be to the last
 * bit, whoever computed what and in whichever order it came. Of strategies whose outcome depends on neither.
 */
import { History, type UpdateData } from '../../coordinator/run/history.ts'
import { Shards } from '../../coordinator/run/shards.ts'
import type { Stage } from '../../coordinator/run/stage.ts'
import { stagesOf } from '../../coordinator/run/stages.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from './examples.ts'
import { type Task, trained } from './honest.ts'

/** What was said of the loss on the work that begins at this position: a search goes by what it is told. */
export type Said = (stage: number, epoch: number, from: number) => number | null

/** Nothing but the spec says what comes of it. */
export function hasOneOutcome(spec: RunSpec): boolean {
  return stagesOf(spec).every(({ strategy, gapChecks }) => strategy.name !== 'downpour' && gapChecks === 0)
}

export function trainedAlone(spec: RunSpec, said: Said): History {
  const dataset = emptyDataset(spec.dataset)
  const history = new History(spec, dataset)
  const shards = {
    shuffled: new Shards(dataset.train, spec.seed, 'shuffled'),
    stored: new Shards(dataset.train, spec.seed, 'stored'),
  }
  const rest = { run: 'alone', at: 0, payload: null, pruned: false }
  let seq = 0
  history.fold({ ...rest, seq: ++seq, kind: 'state', data: { state: 'running', reason: null } })
  while (history.state === 'running') {
    const { stage } = history
    for (const work of works(stage, dataset.train.examples)) {
      const { data, payload } = update(spec, stage, shards, work, said)
      history.fold({ ...rest, seq: ++seq, kind: 'update', data, payload })
    }
    const tested = { version: stage.parameters.version, stage: stage.plan.name, accuracy: 0, loss: 1 }
    history.fold({ ...rest, seq: ++seq, kind: 'evaluated', data: { ...tested, measure: null, trainMeasure: null } })
  }
  return history
}

interface Work {
  readonly epoch: number
  readonly from: number
  readonly to: number
}

/** The stage's work in order, until it is trained. */
function* works(stage: Stage, examples: number): Generator<Work> {
  for (let epoch = 0; !stage.trained; epoch++) {
    for (const [from, to] of boundsOf(stage, examples)) yield { epoch, from, to }
  }
}

/** The bounds of a pass' pieces. */
function boundsOf({ plan: { strategy } }: Stage, examples: number): [number, number][] {
  switch (strategy.name) {
    case 'downpour':
      throw new Error('invariant: what comes of Downpour depends on who computed what')
    case 'synchronous':
      return cut(0, examples, strategy.batchSize).flatMap(([from, to]) => cut(from, to, strategy.portionSize))
    case 'gradient-descent':
    case 'sandblaster': {
      const { portionSize } = strategy
      const blocks = strategy.name === 'sandblaster' && strategy.average === 'blocks'
      const batchSize = blocks ? strategy.batchSize : Math.min(strategy.batchSize, portionSize)
      // Whole blocks only, and what is left of the last one.
      const whole = examples - (examples % batchSize)
      const size = Math.max(1, Math.floor(portionSize / batchSize)) * batchSize
      return [...cut(0, whole, size), ...cut(whole, examples, batchSize)]
    }
  }
}

function cut(from: number, to: number, size: number): [number, number][] {
  const pieces: [number, number][] = []
  for (let at = from; at < to; at += size) pieces.push([at, Math.min(to, at + size)])
  return pieces
}

function update(
  { seed }: RunSpec,
  { index, plan, model, parameters }: Stage,
  shards: Record<'shuffled' | 'stored', Shards>,
  { epoch, from, to }: Work,
  said: Said,
): { data: UpdateData; payload: Uint8Array } {
  const { strategy, codec } = plan
  if (strategy.name === 'downpour') throw new Error('invariant: Downpour is not trained alone')
  const shuffled = strategy.name === 'synchronous'
  const stretch = { epoch, from, to }
  const task: Task = {
    ...{ stage: index, seed, shuffled, codec: codec.up, parametersCodec: codec.down },
    batchSize: shuffled ? strategy.portionSize : strategy.batchSize,
    fraction: strategy.name === 'gradient-descent' ? strategy.fraction : 1,
    reduce: shuffled || (strategy.name === 'sandblaster' && strategy.average === 'blocks') ? 'mean' : 'sum',
    compensated: !shuffled,
    segments: shards[shuffled ? 'shuffled' : 'stored'].segments([stretch]),
  }
  const bytes = encodeVector(codecs[codec.down], parameters.snapshot())
  const { examples, payload } = trained(task, model, bytes, Math.ceil((to - from) / task.batchSize))
  const data: UpdateData = {
    ...{
      lease: `${index}/${epoch}/${from}`,
      volunteer: 'alone',
      version: parameters.version,
      minibatches: 1,
      examples,
    },
    ...{ lossSum: said(index, epoch, from), correct: 0, computeMs: 0, stretches: [stretch], volunteers: 1 },
  }
  return { data, payload }
}
