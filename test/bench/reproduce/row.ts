/**
 * What a row of the reproduction is: which runs it wants (trials), what is read of each, what is claimed of them all,
 * and how they are drawn. A row decides nothing about how runs are carried out, kept or written down.
 */
import type { RunSpec } from '../../../shared/run-spec.ts'
import type { Chart, Point } from './chart.ts'
import type { TrainedRun } from './trained-run.ts'

/** Settings are chosen with a seed that no figure is measured with. */
export const CHOICE_SEED = 101

export interface Settings {
  /** One trial a seed, or one of each kind a seed. */
  readonly seeds: readonly number[]
  /** Local volunteers; null leaves it to the row. Rows that measure crowds choose their own. */
  readonly volunteers: number | null
  /** A smoke test: a few hundred examples, an epoch or two, no verdict. */
  readonly quick: boolean
}

/** Who computes. With nothing but `volunteers` a trial is `npm run train`; otherwise the crowd is made to measure. */
export interface Crowd {
  readonly volunteers: number
  readonly measured?: {
    /** Examples a second: of each, or one after the other. */
    readonly pace?: number | readonly number[]
    /** Browser tabs, as fast as they go, in place of processes. */
    readonly tabs?: boolean
    /** Volunteers in one process; one when absent. */
    readonly together?: number
    /** After so many accepted updates one volunteer is killed (SIGKILL) and another started in its place. */
    readonly replaceAfter?: readonly number[]
  }
}

export interface Trial {
  /** Within the row: `seed-1`. */
  readonly name: string
  readonly seed: number
  readonly spec: RunSpec
  readonly crowd: Crowd
  /** The row and trial whose run this is, where it is another's: both then share one training. */
  readonly sharedWith?: { readonly row: string; readonly trial: string }
}

/** What is read of a trained run: figures by name, and curves by name, in order of x. */
export interface Reading {
  readonly figures: Readonly<Record<string, number>>
  readonly curves: Readonly<Record<string, readonly Point[]>>
  /** PNGs by name, to lie beside the plots; a later seed's takes the place of an earlier one's. */
  readonly pictures?: Readonly<Record<string, Uint8Array>>
}

/** A trial that was carried out. */
export interface Outcome extends Omit<Reading, 'pictures'> {
  readonly trial: string
  readonly seed: number
  readonly spec: RunSpec
  readonly volunteers: number
  readonly pace: number | readonly number[] | null
  /** Volunteers killed and replaced. */
  readonly replaced: number
  readonly date: string
  readonly commit: string
  readonly machine: string
  /** Time spent running, seconds. */
  readonly seconds: number
  readonly examples: number
  readonly updates: number
  readonly meanStaleness: number
  readonly bytesUp: number
  /** null where the run was interrupted: what went down is not journalled. */
  readonly bytesDown: number | null
}

/** One line of the table: a reference figure and what was measured, a value a seed. */
export interface Claim {
  readonly figure: string
  /** Behind every number: ` %`. */
  readonly unit: string
  readonly values: readonly number[]
  readonly reference: number | null
  readonly source: string
  /** `near`: reach and aim say by how much of itself the reference may be missed. */
  readonly better: 'lower' | 'higher' | 'near'
  /** null where the figure is only reported. */
  readonly reach: number | null
  readonly aim: number | null
  /** What is judged; the mean when absent. */
  readonly judged?: 'mean' | 'worst'
}

/** By trial name. */
export type Outcomes = ReadonlyMap<string, Outcome>

export interface Row {
  readonly name: string
  readonly title: string
  trials(settings: Settings): Trial[]
  /** A seed's trials read one another's runs: what is written down of some of them does not do. */
  readonly together?: boolean
  /** `sibling`: the finished run of an earlier trial of the row. */
  read(run: TrainedRun, trial: Trial, sibling: (trial: string) => TrainedRun): Reading | Promise<Reading>
  claims(outcomes: Outcomes): Claim[]
  /** What the table does not say, a sentence each. */
  remarks?(outcomes: Outcomes): string[]
  charts(outcomes: Outcomes): Chart[]
  /** Trials of a small grid of settings, tested on the last 10,000 training examples, and the figure that decides. */
  choices?(settings: Settings): { trials: Trial[]; decides: string }
}

/** The outcomes of trials whose name begins so, in the seeds' order. */
export function beginning(outcomes: Outcomes, prefix: string): Outcome[] {
  return [...outcomes.values()].filter(({ trial }) => trial.startsWith(prefix)).sort((a, b) => a.seed - b.seed)
}

export const valuesOf = (outcomes: readonly Outcome[], figure: string): number[] =>
  outcomes.map(({ figures }) => figures[figure])

export function meanOf(values: readonly number[]): number {
  const sum = values.reduce((sum, value) => sum + value, 0)
  const size = values.reduce((sum, value) => sum + Math.abs(value), 0)
  // What rounding leaves of values that cancel out.
  return Math.abs(sum) <= 1e-12 * size ? 0 : sum / values.length
}
