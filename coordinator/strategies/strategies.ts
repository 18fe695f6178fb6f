/** The table of strategies: from its spec (and a checkpoint's state) to the strategy it names. */
import type { StrategySpec } from '../../shared/run-spec.ts'
import { Downpour } from './downpour.ts'
import { GradientDescent } from './gradient-descent.ts'
import { Sandblaster } from './sandblaster.ts'
import type { Strategy, StrategyRoom } from './strategy.ts'
import { Synchronous } from './synchronous.ts'

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
