/** RunSpecs as an operator writes them: the smallest one, and what a change of it comes to. */
import { parseRunSpec, type RunSpec } from '../../shared/run-spec.ts'

export const smallest = { dataset: { name: 'mnist' }, model: { template: 'softmax' }, stop: { epochs: 3 } }

/** Throws where it is refused. */
export function parsed(spec: object): RunSpec {
  const result = parseRunSpec(spec)
  if (!result.ok) throw new Error(JSON.stringify(result.problems))
  return result.spec
}

/** What is wrong with the smallest spec so changed, by field; {} where nothing is. */
export function problems(change: object): Record<string, string> {
  const result = parseRunSpec({ ...smallest, ...change })
  return result.ok ? {} : Object.fromEntries(result.problems.map(({ field, message }) => [field, message]))
}

/** Paths of a dataset of IDX files with all its labels. */
export const LABELLED = { trainInputs: 'a', testInputs: 'b', trainLabels: 'c', testLabels: 'd' }
