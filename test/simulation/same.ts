/**
 * Whether two histories are the same: parameters, what the rule and the strategy keep beside them, counts and curves.
 */
import { PARAMETERS } from '../../coordinator/parameters/parameters.ts'
import type { History } from '../../coordinator/run/history.ts'
import { must } from './violation.ts'

export function same(rule: string, history: History, expected: History, what: string): void {
  const [a, b] = [history.parameters, expected.parameters]
  must(rule, a.version === b.version, `${what} is at version ${a.version}, the journal says ${b.version}`)
  const [left, right] = [told(history), told(expected)]
  for (const key of Object.keys(left)) {
    must(rule, left[key] === right[key], () => `${what}: ${key} is ${left[key]}, the journal says ${right[key]}`)
  }
  const vectors = vectorsOf(history, history.resting)
  const others = new Map(vectorsOf(expected, history.resting).map((vector) => [vector.name, vector.values]))
  must(rule, vectors.length === others.size, `${what} has ${vectors.length} vectors, the journal says ${others.size}`)
  for (const { name, values } of vectors) {
    const other = others.get(name) ?? new Float32Array()
    must(rule, values.length === other.length, `${what}: vector ${name} has ${values.length} floats`)
    for (let i = 0; i < values.length; i++) {
      const equal = Object.is(values[i], other[i])
      must(rule, equal, () => `${what}, version ${a.version}: ${name}[${i}] is ${values[i]}, not ${other[i]}`)
    }
  }
}

/** The same for all that a checkpoint says. */
export function sameState(rule: string, history: History, expected: History, what: string): void {
  // What an open epoch looks like is compared above.
  const { stageState: _, ...left } = history.toJSON()
  const right = expected.toJSON()
  for (const key of Object.keys(left) as (keyof typeof left)[]) {
    const [a, b] = [JSON.stringify(left[key]), JSON.stringify(right[key])]
    must(rule, a === b, `${what}: ${key} of a checkpoint is ${a}, the journal says ${b}`)
  }
}

/** Every vector by name, or those that a run at rest has. The models here are smaller than one range. */
function vectorsOf(
  { stage, stack, outcomes }: History,
  resting: boolean,
): { name: string; values: ArrayLike<number> }[] {
  const vectors = resting ? stage.parameters.vectors.views([PARAMETERS]) : stage.vectors()
  return [
    ...vectors.map(({ name, range, values }) => ({ name: `${name}/${range}`, values })),
    ...stack.map((values, i) => ({ name: `stack ${i}`, values })),
    ...(outcomes === null ? [] : [{ name: 'outcomes', values: outcomes }]),
  ]
}

/** What beside the vectors must be the same. An epoch that is open and untouched is the same as one not yet opened. */
function told({ counts, stage, epochs, strategy, series }: History): Record<string, string> {
  const { complete, done } = epochs.toJSON()
  while (done.length > 0 && done.at(-1)!.length === 0) done.pop()
  return {
    counts: JSON.stringify(counts),
    stage: stage.plan.name,
    // What iterates has a rate of its own.
    rate: strategy.iterations === undefined ? String(stage.rate) : '',
    epochs: JSON.stringify({ complete, done }),
    strategy: JSON.stringify(strategy),
    series: JSON.stringify(series),
  }
}
