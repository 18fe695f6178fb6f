/**
 * Delay compensation (DC-ASGD, Zheng et al. 2017): an update computed at an older version is moved, before it is
 * applied, to what its gradient would be at the newest one, to first order: g + λ·g⊙g⊙(w − w_base), where λ·g⊙g stands
 * for the diagonal of the Hessian. λ is constant (DC-ASGD-c), or with `decay` m adaptive (DC-ASGD-a, algorithm 2):
 * λ₀/√(MS + 10⁻⁷), MS ← m·MS + (1−m)·g⊙g. There is one MS for all volunteers, as in the paper; the authors' code keeps
 * one for each worker, which a crowd that comes and goes has no use for.
 *
 * g is the mean gradient of a minibatch, since g⊙g grows with its square: of an update that is the sum of n of them the
 * mean is compensated, and multiplied by n again. That the replica moved between them is not looked at.
 *
 * Replay meets the same updates with nobody holding the versions that they began from, so the last ones are kept here,
 * as vectors in a ring, and in every checkpoint. The paper keeps a copy for each worker instead.
 */
import { FLUSH_EVERY } from '../../shared/kernels/kernels.ts'
import type { PolicySpec } from '../../shared/strategy-spec.ts'
import { PARAMETERS, type Parameters } from '../parameters/parameters.ts'
import { at } from '../parameters/vectors.ts'
import type { Settled } from './strategy.ts'

/** What keeps λ finite where no gradient ever was: the paper's 10⁻⁷. */
const EPSILON = 1e-7
const MEAN_SQUARE = 'mean-square'

interface CompensationState {
  /** The versions that are kept, in order: `count` of them, the last one `newest`. */
  newest: number
  count: number
  /** Updates so far. */
  updates: number
}

export class Compensation {
  private readonly spec: NonNullable<PolicySpec['compensation']>
  /** Places in the ring: versions behind the newest one that an update may begin from. */
  private readonly places: number
  private readonly parameters: Parameters
  private readonly state: CompensationState

  /** `maxStaleness`: versions behind the newest one that an update may be. */
  constructor(
    spec: NonNullable<PolicySpec['compensation']>,
    maxStaleness: number,
    parameters: Parameters,
    state?: CompensationState,
  ) {
    this.spec = spec
    this.places = maxStaleness
    this.parameters = parameters
    this.state = state === undefined ? { newest: -1, count: 0, updates: 0 } : { ...state }
    const { vectors } = parameters
    for (const name of this.vectors) if (!vectors.has(name)) vectors.create(name)
  }

  /** What a checkpoint must hold: the ring, oldest version first, and MS. */
  get vectors(): string[] {
    const { newest, count } = this.state
    const ring = Array.from({ length: count }, (_, i) => this.place(newest - count + 1 + i))
    return this.spec.decay === null ? ring : [...ring, MEAN_SQUARE]
  }

  /** vector ← the update that it holds, compensated. Throws where the version it began from is not kept any more. */
  compensate(vector: string, { version, staleness, minibatches }: Settled): void {
    const { lambda, decay } = this.spec
    this.state.updates++
    // Nothing has moved: what is left to do is MS.
    if (staleness === 0 && decay === null) return
    const base = staleness === 0 ? PARAMETERS : this.kept(version)
    for (const slice of this.parameters.vectors.slices) {
      const { kernels, count } = slice
      const [g, w, from] = [at(slice, vector), at(slice, PARAMETERS), at(slice, base)]
      if (decay === null) kernels.compensate(g, w, from, count, { lambda, minibatches })
      else {
        const squares = at(slice, MEAN_SQUARE)
        kernels.compensateAdaptive(g, w, from, squares, count, { lambda, minibatches, decay, epsilon: EPSILON })
        if (this.state.updates % FLUSH_EVERY === 0) kernels.flush(squares, count)
      }
    }
  }

  /** To be called before every step: the newest version is kept, in the place of the oldest one. */
  remember(): void {
    const { state, parameters, places } = this
    if (places === 0) return
    const { version, vectors } = parameters
    if (state.count > 0 && version !== state.newest + 1) {
      throw new Error(`invariant: version ${version} follows ${state.newest}`)
    }
    if (state.count < places) {
      vectors.create(this.place(version))
      state.count++
    }
    state.newest = version
    vectors.copy(this.place(version), PARAMETERS)
  }

  toJSON(): CompensationState {
    return this.state
  }

  private kept(version: number): string {
    const { newest, count } = this.state
    if (version > newest || version <= newest - count) throw new Error(`invariant: version ${version} is not kept`)
    return this.place(version)
  }

  /** The vector that a version has while it is kept. */
  private place(version: number): string {
    return `base-${version % this.places}`
  }
}
