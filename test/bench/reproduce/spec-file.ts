/** The specs of the rows: files of `runs/`, as anybody may run them, with what a trial changes. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseRunSpec, type RunSpec } from '../../../shared/run-spec.ts'
import type { Settings } from './row.ts'

const RUNS = join(import.meta.dirname, '../../../runs')
/** Held out to choose settings on. */
const HELD_OUT = 10_000

type Fields = Record<string, unknown>

/**
 * A file of `runs/` with these fields changed, objects field by field. Tested at the end only: what the protocol asks
 * for. Throws where the result cannot run.
 */
export function specOf(file: string, changes: Fields): RunSpec {
  const base = JSON.parse(readFileSync(join(RUNS, `${file}.json`), 'utf8')) as Fields
  const atTheEnd = { evaluateEveryEpochs: 0 }
  const stack = (base.model as Fields).template === 'rbm'
  const pretrain = stack || base.pretrain !== undefined ? { pretrain: atTheEnd } : {}
  // Of a stack of RBMs pre-training is all there is.
  return parsed(merged(merged(base, stack ? pretrain : { ...atTheEnd, ...pretrain }), changes))
}

/** Small enough for a smoke test where that is asked for. */
export function quickened(spec: RunSpec, { quick }: Pick<Settings, 'quick'>, examples = 600): RunSpec {
  if (!quick) return spec
  const dataset = { ...spec.dataset, train: examples, test: 200 }
  const pretrain = spec.pretrain === undefined ? {} : { pretrain: { ...spec.pretrain, epochs: 1 } }
  return parsed({ ...spec, dataset, stop: { ...spec.stop, epochs: Math.min(2, spec.stop.epochs) }, ...pretrain })
}

/** Trained on all training examples but the last 10,000, and tested on those. */
export function heldOut(spec: RunSpec): RunSpec {
  return parsed({ ...spec, dataset: { ...spec.dataset, validate: HELD_OUT } })
}

/** Another rule or strategy takes the place of the file's; other objects are gone through field by field. */
function merged(base: Fields, changes: Fields): Fields {
  const result = { ...base }
  for (const [field, value] of Object.entries(changes)) {
    const before = base[field]
    const both = isObject(before) && isObject(value)
    const another = both && value.name !== undefined && value.name !== before.name
    result[field] = both && !another ? merged(before, value) : value
  }
  return result
}

function parsed(value: unknown): RunSpec {
  const outcome = parseRunSpec(value)
  // As it comes back from a journal: what is undefined is not there.
  if (outcome.ok) return JSON.parse(JSON.stringify(outcome.spec))
  throw new Error(`invariant: ${outcome.problems.map(({ field, message }) => `${field}: ${message}`).join('; ')}`)
}

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
