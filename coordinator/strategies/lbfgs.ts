/**
 * L-BFGS with a strong Wolfe search, as Breeze has it under Spark (ALGORITHMS §1.3), between evaluations.
 *
 * The objective is evaluated elsewhere, by a crowd, in minutes: `evaluated` is told its value at the trial point, moves
 * on as far as it can without another evaluation, and `place` puts the next trial point. In between all there
 * is are the named vectors and a state that is plain JSON, so it can stop and go on, with the same bits.
 *
 * Vectors are never looked at: they are told to add, scale, copy and give dot products, so that only scalars come here
 * (Sandblaster, Dean et al. 2012, §4.2). The direction is vector-free (Chen, Wang & Zhou 2014): the two-loop
 * recursion on the Gram matrix of s₁..s_k, y₁..y_k, g gives the coefficients of one linear combination.
 *
 *     starting ──f(x₀)──► searching ──f(x + t·d)──► searching … ──► stopped
 *
 * A search that fails, or a history that gives no direction, clears the history and tries steepest descent from the
 * same point; a second failure in a row stops with `search-failed` at that point. With a tolerance below the
 * noise of float32 that is a normal end.
 */
import { begin, type Progress, proceed, type Search } from './wolfe.ts'

/** What is asked of the vectors; all of one size, by name. */
export interface VectorSpace {
  has(name: string): boolean
  /** A new vector of zeros. */
  create(name: string): void
  /** target ← source */
  copy(target: string, source: string): void
  /** target ← a·target */
  scale(target: string, a: number): void
  /** target ← target + a·source */
  axpy(target: string, a: number, source: string): void
  dot(a: string, b: string): number
}

interface LbfgsOptions {
  /** m: pairs of steps and gradient differences that are kept. */
  readonly memory: number
  readonly tolerance: number
  /** Most iterations. */
  readonly iterations: number
  /** Names of the trial point and of the gradient there, which others change. */
  readonly trial: string
  readonly trialGradient: string
}

/**
 * Why it stopped: the iterations are up, loss or gradient are as small as they were to be, nothing helps, it was told.
 */
export type StopReason = 'iterations' | 'value' | 'gradient' | 'search-failed' | 'not-finite' | 'abandoned'

export interface LbfgsState {
  /** Steps taken. */
  iteration: number
  /** f at w, and at the first w. */
  value: number
  first: number
  /** The last accepted values, at most VALUES, without the first. */
  values: number[]
  /** Of each pair (s, y), oldest first, which vectors hold it. */
  slots: number[]
  /** Dot products of s.., y.., g (each oldest first). */
  gram: number[][]
  /** Length of the last step. */
  step: number
  failedOnce: boolean
  /** null before the first evaluation, and at the end. */
  search: Search | null
  stopped: StopReason | null
}

/** Accepted values that the last one is compared with. */
const VALUES = 20
/** A gradient shorter than this is none. */
const GRADIENT_LEAST = 1e-8
/** A step t with t·‖g‖ below this is none. */
const STEP_LEAST = 1e-10

const POINT = 'w'
const GRADIENT = 'g'
const DIRECTION = 'd'
const step = (slot: number) => `s${slot}`
const difference = (slot: number) => `y${slot}`

export class Lbfgs {
  private readonly options: LbfgsOptions
  private readonly space: VectorSpace
  private readonly state: LbfgsState

  /** Goes on from `state`, with the vectors that it names as they were, or begins at the trial point. */
  constructor(options: LbfgsOptions, space: VectorSpace, state?: LbfgsState) {
    this.options = options
    this.space = space
    this.state = state ?? {
      ...{ iteration: 0, value: 0, first: 0, values: [], slots: [], gram: [], step: 0 },
      ...{ failedOnce: false, search: null, stopped: null },
    }
    for (const name of this.vectors) this.ensure(name)
  }

  toJSON(): LbfgsState {
    return this.state
  }

  /** Vectors that must survive beside the trial point. */
  get vectors(): string[] {
    return [POINT, GRADIENT, DIRECTION, ...this.basis.slice(0, -1)]
  }

  /** Steps taken. */
  get iteration(): number {
    return this.state.iteration
  }

  get stopped(): StopReason | null {
    return this.state.stopped
  }

  /** f, ‖∇f‖ and the length of the step that led there, of the last accepted point. */
  get accepted(): { readonly value: number; readonly gradientNorm: number; readonly step: number } {
    const { value, step } = this.state
    return { value, gradientNorm: Math.sqrt(this.gradientSquares), step }
  }

  /** t, φ(0) and φ'(0) of the search that waits for an evaluation; null where none does. */
  get search(): Search | null {
    return this.state.search
  }

  /**
   * The objective is `value` at the trial point, and its gradient is in its vector; not finite where the point is
   * outside the domain. True where `place` is to be called: the trial point must become another one.
   */
  evaluated(value: number): boolean {
    const { state } = this
    if (state.stopped !== null) throw new Error('invariant: L-BFGS is told of an evaluation after its end')
    const accepted = state.search === null ? this.started(value) : this.searched(state.search, value)
    if (accepted) {
      state.stopped = this.judged()
      if (state.stopped === null) this.descend()
      else state.search = null
    }
    // It stops at the last accepted point: a trial that was rejected must go.
    return state.stopped === null || (state.stopped === 'search-failed' && !accepted)
  }

  /** trial ← the point to be evaluated next, or the one it came to. */
  place(): void {
    const { space, options, state } = this
    space.copy(options.trial, POINT)
    if (state.search !== null) space.axpy(options.trial, state.search.t, DIRECTION)
  }

  /** Gives up the search that is under way, if one is: true where `place` then puts the point it began from. */
  abandon(): boolean {
    if (this.state.search === null) return false
    this.state.search = null
    this.state.stopped = 'abandoned'
    return true
  }

  /** The first evaluation; false where there is nothing to begin from. */
  private started(value: number): boolean {
    const { state, space, options } = this
    space.copy(POINT, options.trial)
    space.copy(GRADIENT, options.trialGradient)
    const squares = space.dot(GRADIENT, GRADIENT)
    if (!Number.isFinite(value) || !Number.isFinite(squares)) {
      state.stopped = 'not-finite'
      return false
    }
    Object.assign(state, { value, first: value, gram: [[squares]] })
    return true
  }

  /** An evaluation that a search waited for; true where the trial point is the next one. */
  private searched(search: Search, value: number): boolean {
    const { space, options } = this
    const squares = space.dot(options.trialGradient, options.trialGradient)
    const slope = Number.isFinite(squares) ? space.dot(options.trialGradient, DIRECTION) : Number.NaN
    const progress = proceed(search, value, slope)
    if (progress.kind === 'accepted' && progress.t * Math.sqrt(this.gradientSquares) >= STEP_LEAST) {
      this.accept(value)
      return true
    }
    this.follow(progress)
    return false
  }

  /** The trial point becomes the point; what the step taught joins the history. */
  private accept(value: number): void {
    const { state, space, options } = this
    const { slots } = state
    const full = slots.length === options.memory
    const slot = full ? slots[0] : firstFree(slots)
    const [s, y] = [step(slot), difference(slot)]
    for (const name of [s, y]) this.ensure(name)
    space.copy(s, options.trial)
    space.axpy(s, -1, POINT)
    space.copy(y, options.trialGradient)
    space.axpy(y, -1, GRADIENT)
    space.copy(POINT, options.trial)
    space.copy(GRADIENT, options.trialGradient)
    const old = state.gram
    const kept = full ? slots.slice(1) : slots
    state.slots = [...kept, slot]
    state.gram = this.gramAfter(old, slots.length, full)
    state.step = Math.sqrt(state.gram[kept.length][kept.length])
    state.value = value
    state.values = [...state.values, value].slice(-VALUES)
    state.iteration++
    state.failedOnce = false
  }

  /** The Gram matrix with the newest pair and gradient; of the old one, of `before` pairs, what is still there. */
  private gramAfter(old: number[][], before: number, dropped: boolean): number[][] {
    const { basis } = this
    const pairs = this.state.slots.length
    /** Where an element of the basis was in the old one; null for what is new: the last s, the last y and g. */
    const was = basis.map((_, i) => {
      const place = i % pairs
      if (i === 2 * pairs || place === pairs - 1) return null
      return (i < pairs ? 0 : before) + place + (dropped ? 1 : 0)
    })
    const gram: number[][] = basis.map(() => [])
    basis.forEach((a, i) => {
      for (let j = 0; j <= i; j++) {
        const [x, y] = [was[i], was[j]]
        gram[i][j] = x === null || y === null ? this.space.dot(a, basis[j]) : old[x][y]
        gram[j][i] = gram[i][j]
      }
    })
    return gram
  }

  /** Why it stops at the point just accepted, or null. */
  private judged(): StopReason | null {
    const { iteration, value, values, first } = this.state
    const { iterations, tolerance } = this.options
    if (iteration >= iterations) return 'iterations'
    // Breeze's list begins with an infinity, so that this rule first speaks when so many values are in.
    if (values.length === VALUES && Math.abs(value - Math.max(...values)) <= tolerance * Math.abs(first)) return 'value'
    const short = Math.max(tolerance * Math.abs(value), GRADIENT_LEAST)
    return Math.sqrt(this.gradientSquares) <= short ? 'gradient' : null
  }

  /** A new search from the point, along the direction that the history gives. */
  private descend(): void {
    const { state, space } = this
    const factors = twoLoop(state.gram)
    if (factors === null) return this.fail()
    const { basis } = this
    space.copy(DIRECTION, GRADIENT)
    space.scale(DIRECTION, factors[factors.length - 1])
    for (let i = 0; i < basis.length - 1; i++) space.axpy(DIRECTION, factors[i], basis[i])
    const slope = space.dot(DIRECTION, GRADIENT)
    const first = state.iteration === 0 ? 1 / Math.sqrt(space.dot(DIRECTION, DIRECTION)) : 1
    this.follow(begin(state.value, slope, first))
  }

  private follow(progress: Progress): void {
    if (progress.kind === 'probe') this.state.search = progress.search
    // An accepted step comes here when it is too short to be one.
    else this.fail()
  }

  private fail(): void {
    const { state } = this
    state.search = null
    if (state.failedOnce) {
      state.stopped = 'search-failed'
      return
    }
    state.failedOnce = true
    state.slots = []
    state.gram = [[this.gradientSquares]]
    this.descend()
  }

  /** s₁..s_k, y₁..y_k, g by name. */
  private get basis(): string[] {
    const { slots } = this.state
    return [...slots.map(step), ...slots.map(difference), GRADIENT]
  }

  /** ‖g‖² */
  private get gradientSquares(): number {
    return this.state.gram.at(-1)?.at(-1) ?? Number.NaN
  }

  private ensure(name: string): void {
    if (!this.space.has(name)) this.space.create(name)
  }
}

/**
 * The coefficients of d = −H·g over the basis s₁..s_k, y₁..y_k, g (1 the oldest), from its Gram matrix of 2k+1 rows:
 * equal to the two-loop recursion in exact arithmetic. null where the history gives none: the newest s·y is
 * negative, or something is not finite.
 */
export function twoLoop(gram: readonly (readonly number[])[]): number[] | null {
  const pairs = (gram.length - 1) / 2
  const factors = new Array<number>(gram.length).fill(0)
  factors[2 * pairs] = -1
  const along = (row: number) => factors.reduce((sum, factor, l) => sum + factor * gram[l][row], 0)
  const back: number[] = []
  for (let i = pairs - 1; i >= 0; i--) {
    back[i] = along(i) / gram[i][pairs + i]
    factors[pairs + i] -= back[i]
  }
  if (pairs > 0) {
    const newest = pairs - 1
    const curvature = gram[newest][pairs + newest]
    if (!(curvature >= 0)) return null
    const scale = curvature / gram[pairs + newest][pairs + newest]
    for (let l = 0; l < factors.length; l++) factors[l] *= scale
  }
  for (let i = 0; i < pairs; i++) factors[i] += back[i] - along(pairs + i) / gram[i][pairs + i]
  return factors.every(Number.isFinite) ? factors : null
}

function firstFree(slots: readonly number[]): number {
  let slot = 0
  while (slots.includes(slot)) slot++
  return slot
}
