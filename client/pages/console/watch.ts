/**
 * What the console knows of the coordinator, kept current by itself: the first state by request, then live events;
 * when the stream breaks it waits a little longer each time, connects again and asks for the state anew.
 *
 * The stream is opened before the first state is asked for, so nothing falls between the two; what comes twice is
 * recognised by its place on the curve.
 */
import { type Signal, signal } from '@preact/signals'
import type { IterationPoint, LiveEvent, RunDetail, RunMetrics, TestPoint, TrainPoint } from '../../../shared/api.ts'
import type { ApiProblem, Operator } from './operator.ts'
import { iterates } from './stage-kind.ts'

/** loading: nothing known yet · live · lost: shows what it last knew and tries again · refused: the token is wrong */
export type Link =
  | { state: 'loading' }
  | { state: 'live' }
  | { state: 'lost'; problem: ApiProblem | null }
  | { state: 'refused' }

export interface Curves {
  /** False until the points before the first live event have arrived. */
  complete: boolean
  problem: ApiProblem | null
  train: TrainPoint[]
  test: TestPoint[]
  /** Of the stage under way, where it iterates. */
  iterations: IterationPoint[]
}

const FIRST_RETRY_MS = 500
const LAST_RETRY_MS = 15_000

export class Watch {
  readonly link: Signal<Link> = signal({ state: 'loading' })
  /** Newest first; null until the first answer. */
  readonly runs: Signal<RunDetail[] | null> = signal(null)
  readonly #operator: Operator
  readonly #curves = new Map<string, Signal<Curves>>()
  readonly #closed = new AbortController()
  #retryNow: () => void = () => {}

  constructor(operator: Operator) {
    this.#operator = operator
    const hurry = () => this.retry()
    addEventListener('online', hurry, { signal: this.#closed.signal })
    void this.#follow()
  }

  /** A run's curves, asked for when somebody first looks at them. */
  curves(run: string): Signal<Curves> {
    let curves = this.#curves.get(run)
    if (curves === undefined) {
      curves = signal<Curves>({ complete: false, problem: null, train: [], test: [], iterations: [] })
      this.#curves.set(run, curves)
      void this.#loadCurves(run, curves)
    }
    return curves
  }

  /** Takes over a run that an action answered with, ahead of its event. */
  learn(run: RunDetail) {
    const others = (this.runs.value ?? []).filter((other) => other.run !== run.run)
    this.runs.value = [...others, run].sort((a, b) => b.createdAt.localeCompare(a.createdAt))
  }

  /** Connect again without waiting. */
  retry() {
    this.#retryNow()
  }

  close() {
    this.#closed.abort()
    this.#retryNow()
  }

  async #follow() {
    let retryMs = FIRST_RETRY_MS
    while (!this.#closed.signal.aborted) {
      let problem: ApiProblem | null = null
      const stream = await this.#operator.events(this.#closed.signal)
      const state = stream.ok ? await this.#operator.get<{ runs: RunDetail[] }>('/api/runs') : stream
      if (state.ok && stream.ok) {
        this.runs.value = (state.value as { runs: RunDetail[] }).runs
        this.link.value = { state: 'live' }
        retryMs = FIRST_RETRY_MS
        for (const [run, curves] of this.#curves) void this.#loadCurves(run, curves)
        try {
          for await (const event of stream.value) this.#take(event)
        } catch {
          // A broken stream is told by the link's state; the reason is not known to a page.
        }
      } else if (!state.ok) {
        problem = state.problem
      }
      if (this.#closed.signal.aborted) return
      if (problem?.code === 'unauthorized') {
        this.link.value = { state: 'refused' }
        return
      }
      this.link.value = { state: 'lost', problem }
      await new Promise<void>((resolve) => {
        this.#retryNow = resolve
        // Half of it by chance, so that many consoles do not come back in step.
        setTimeout(resolve, retryMs * (0.5 + Math.random() / 2))
      })
      retryMs = Math.min(LAST_RETRY_MS, retryMs * 2)
    }
  }

  #take(event: LiveEvent) {
    if (event.type === 'run') {
      this.#followIterations(event.run)
      return this.learn(event.run)
    }
    const curves = this.#curves.get(event.run)
    if (curves === undefined) return
    const known = curves.value
    if (event.type === 'train') {
      curves.value = { ...known, train: known.train.concat(newer(known.train, [event.point])) }
    } else {
      curves.value = { ...known, test: known.test.concat(newer(known.test, [event.point])) }
    }
  }

  /** Iterations come with no event of their own: when their number has grown, they are asked for. */
  #followIterations(detail: RunDetail) {
    const { run, stage, epoch } = detail
    const curves = this.#curves.get(run)
    const before = this.runs.value?.find((known) => known.run === run)
    if (curves === undefined || !iterates(detail, stage)) return
    if (before?.epoch !== epoch || before.stage !== stage) void this.#loadCurves(run, curves)
  }

  async #loadCurves(run: string, curves: Signal<Curves>) {
    const answer = await this.#operator.get<RunMetrics>(`/api/runs/${encodeURIComponent(run)}/metrics`)
    if (!answer.ok) {
      curves.value = { ...curves.value, problem: answer.problem }
      return
    }
    const { train, test, iterations } = answer.value
    curves.value = {
      complete: true,
      problem: null,
      train: train.concat(newer(train, curves.value.train)),
      test: test.concat(newer(test, curves.value.test)),
      iterations,
    }
  }
}

/** Those of `points` that lie beyond the end of `known`. */
function newer<P extends TrainPoint | TestPoint>(known: P[], points: P[]): P[] {
  const last = known.at(-1)
  return last === undefined ? points : points.filter((point) => point.seconds > last.seconds)
}
