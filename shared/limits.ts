/** What of a RunSpec is more than the coordinator or a volunteer has memory for, each with what would fit. */
import type { Model } from './models.ts'
import type { RunSpec } from './run-spec.ts'
import type { Contradiction } from './spec-problem.ts'
import type { StrategySpec } from './strategy-spec.ts'
import { outputsOf, type Topology } from './topology.ts'

/** Floats of the largest model that is taken: 256 MB, several times over with its optimizer's state and versions. */
const PARAMETERS_MAX = 1 << 26

/** Floats of all versions that delay compensation keeps: 512 MB. */
const COMPENSATION_FLOATS_MAX = 1 << 27

/** Floats of a synchronous batch's portions that may wait for the last one: 1 GB in f32; so many may in any case. */
const HELD_FLOATS_MAX = 1 << 28
const HELD_LEAST = 16

/** Floats of the pairs that L-BFGS keeps: 2 GB. */
const PAIRS_FLOATS_MAX = 1 << 29

/**
 * Floats of all layers' outputs for the examples that a volunteer computes at once: 256 MB, of which a step holds about
 * four and a half times as much (measured, convolutions on WASM), and WASM has 4 GB.
 */
const OUTPUTS_MAX = 1 << 26

/** How many examples a volunteer can compute at once; one in any case. */
export const examplesAtOnce = (topology: Topology): number => Math.max(1, Math.floor(OUTPUTS_MAX / outputsOf(topology)))

/** The first thing found, null where all fits. An RBM is at most as large as the whole network. */
export function tooLarge(spec: RunSpec, model: Model): Contradiction | null {
  const { size } = model.layout
  if (size > PARAMETERS_MAX) {
    return { path: ['model'], message: `expected a model of at most ${PARAMETERS_MAX} parameters, got ${size}` }
  }
  const of = (strategy: StrategySpec, path: string[]) =>
    tooManyVersions(strategy, size, path) ??
    tooMuchHeld(strategy, size, path) ??
    tooManyPairs(strategy, size, path) ??
    tooMuchAtOnce(strategy, model, path)
  return (
    of(spec.strategy, ['strategy']) ?? (spec.pretrain ? of(spec.pretrain.strategy, ['pretrain', 'strategy']) : null)
  )
}

/** Delay compensation keeps the versions that updates may come from. */
function tooManyVersions(strategy: StrategySpec, size: number, path: string[]): Contradiction | null {
  if (strategy.name !== 'downpour' || strategy.policy.compensation === undefined) return null
  const most = Math.floor(COMPENSATION_FLOATS_MAX / size)
  if (strategy.maxStaleness <= most) return null
  return {
    path: [...path, 'maxStaleness'],
    message:
      `policy.compensation keeps the last maxStaleness versions, here ${strategy.maxStaleness} of ${size} parameters: ` +
      `lower maxStaleness to ${most} or less`,
  }
}

/** The portions of a synchronous batch wait for the last one. */
function tooMuchHeld(strategy: StrategySpec, size: number, path: string[]): Contradiction | null {
  if (strategy.name !== 'synchronous') return null
  const { batchSize, portionSize } = strategy
  const portions = Math.ceil(batchSize / portionSize)
  const most = Math.max(HELD_LEAST, Math.floor(HELD_FLOATS_MAX / size))
  if (portions <= most) return null
  return {
    path: [...path, 'portionSize'],
    message:
      `a batch of ${batchSize} waits in ${portions} portions of ${size} parameters until it is whole: ` +
      `write at least ${Math.ceil(batchSize / most)}`,
  }
}

/** L-BFGS keeps `memory` pairs of a step and a gradient's change. */
function tooManyPairs(strategy: StrategySpec, size: number, path: string[]): Contradiction | null {
  if (strategy.name !== 'sandblaster') return null
  const most = Math.floor(PAIRS_FLOATS_MAX / (2 * size))
  if (strategy.memory <= most) return null
  return {
    path: [...path, 'memory'],
    message: `${strategy.memory} pairs of vectors of ${size} parameters are kept: lower memory to ${most} or less`,
  }
}

/** What a volunteer computes at once passes through all layers together. */
function tooMuchAtOnce(strategy: StrategySpec, { topology }: Model, path: string[]): Contradiction | null {
  const field = strategy.name === 'synchronous' ? 'portionSize' : 'batchSize'
  const examples = strategy.name === 'synchronous' ? strategy.portionSize : strategy.batchSize
  const most = examplesAtOnce(topology)
  if (examples <= most) return null
  return {
    path: [...path, field],
    message: `the layers make ${outputsOf(topology)} numbers of an example, and ${examples} examples are computed at once: write ${most} or less`,
  }
}
