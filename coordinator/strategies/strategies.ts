/** The table of strategies: from its spec (and a checkpoint's state) to the strategy it names. */
import type { CodecName } from '../../shared/codec-names.ts'
import type { StrategySpec } from '../../shared/run-spec.ts'
import type { Parameters } from '../parameters/parameters.ts'
import { Downpour } from './downpour.ts'
import { GradientDescent } from './gradient-descent.ts'
import { Sandblaster } from './sandblaster.ts'
import type { Strategy } from './strategy.ts'
import { Synchronous } from './synchronous.ts'

export interface StrategyRoom {
  /** Training examples of a pass. */
  readonly examples: number
  /** Name of the update rule. */
  readonly rule: string
  readonly codec: CodecName
  readonly seed: number
  /** How many of the examples [from, to) as stored are in the Bernoulli sample of a pass. */
  sampled(pass: number, fraction: number, from: number, to: number): number
  /** Most iterations, where the strategy counts them. */
  readonly iterations: number
  readonly parameters: Parameters
}

export function openStrategy(spec: StrategySpec, room: StrategyRoom, state?: unknown): Strategy {
  switch (spec.name) {
    case 'downpour':
      return new Downpour(spec, room, state)
    case 'synchronous':
      return new Synchronous(spec, room.examples)
    case 'gradient-descent':
      return new GradientDescent(spec, room, state)
    case 'sandblaster':
      return new Sandblaster(spec, room, state)
  }
}
