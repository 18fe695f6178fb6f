/** The table of strategies: from a RunSpec (and a checkpoint's state) to the strategy it names. */
import type { RunSpec } from '../../shared/run-spec.ts'
import { Downpour } from './downpour.ts'
import type { Strategy } from './strategy.ts'
import { Synchronous } from './synchronous.ts'

export function openStrategy(spec: RunSpec, examplesPerEpoch: number, state?: unknown): Strategy {
  switch (spec.strategy.name) {
    case 'downpour':
      return new Downpour(spec.strategy, spec.updateRule.name, state)
    case 'synchronous':
      return new Synchronous(spec.strategy, examplesPerEpoch)
  }
}
