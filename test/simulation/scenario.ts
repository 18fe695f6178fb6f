/** What a seed stands for: the runs, the crowd and the misfortunes, all drawn before anything happens. */
import type { RunSpec } from '../../shared/run-spec.ts'
import { Draws } from './draws.ts'
import { drawSpec } from './specs.ts'

/** What a volunteer may do wrong, on purpose or because it is broken. */
const VICES = [
  'nan',
  'huge',
  'short',
  'long',
  'size',
  'count',
  'correct',
  'foreign',
  'version',
  'replay',
  'unstarted',
  'silent',
  'squat',
  'loss',
  'lie',
  'null',
  'time',
  'idle',
  'sleep',
] as const
export type Vice = (typeof VICES)[number]

/** What a volunteer is like; the chances are per lease, those of the line per message. */
export interface Nature {
  readonly name: string
  readonly trusted: boolean
  readonly joinsAtMs: number
  readonly examplesPerSecond: number
  readonly latencyMs: number
  readonly lost: number
  readonly twice: number
  readonly vanishes: number
  /** A tab that vanished may be back after so long; null: never. */
  readonly backAfterMs: number | null
  readonly givesBack: number
  /** A lease that takes many times as long as it should. */
  readonly stalls: number
  /** Asks for the next lease while it computes. */
  readonly prefetches: boolean
  /** Announces before it sends. */
  readonly announces: boolean
  /** Of a test it sends every example's outcome. */
  readonly tellsOutcomes: boolean
  readonly vice: Vice | null
  readonly viceChance: number
  /** The run it wants, by its place; null: any. */
  readonly wants: number | null
}

export type Misfortune =
  | 'crash'
  | 'crash-before-append'
  | 'crash-after-append'
  | 'crash-before-checkpoint'
  | 'crash-after-checkpoint'
  | 'crash-orderly'
  | 'disk-full'
  | 'silence'
  | 'pause'
  | 'pause-when-trained'
  | 'stop'

export interface Scenario {
  readonly specs: readonly { readonly spec: RunSpec; readonly createdAtMs: number }[]
  readonly crowd: readonly Nature[]
  readonly misfortunes: readonly { readonly atMs: number; readonly what: Misfortune; readonly lastsMs: number }[]
  /** From here on nothing of the coordinator's breaks any more; volunteers stay what they are. */
  readonly calmAtMs: number
}

export function scenario(seed: number): Scenario {
  const draws = new Draws(seed, 1)
  const calmAtMs = draws.magnitude(20_000, 240_000)
  const runs = draws.pick([1, 1, 1, 2, 2, 3])
  const specs = Array.from({ length: runs }, (_, i) => ({
    spec: drawSpec(draws, i),
    createdAtMs: i === 0 ? 0 : draws.between(0, calmAtMs),
  }))
  const strangers = draws.pick([0, 1, 2, 3, 5, 8, 12, 17])
  const crowd = [
    ...Array.from({ length: draws.pick([1, 1, 2]) }, (_, i) => steadfast(draws, `steady-${i}`, false)),
    steadfast(draws, 'own', true),
    ...Array.from({ length: strangers }, (_, i) => stranger(draws, `tab-${i}`, calmAtMs, runs)),
    ...(draws.chance(0.3) ? [{ ...stranger(draws, 'own-2', calmAtMs, runs), trusted: true, vice: null }] : []),
  ]
  const misfortunes = Array.from({ length: draws.whole(0, 10) }, () => ({
    atMs: draws.between(0, calmAtMs),
    what: draws.pick<Misfortune>([
      'crash',
      'crash',
      'crash-before-append',
      'crash-after-append',
      'crash-after-append',
      'crash-before-checkpoint',
      'crash-after-checkpoint',
      'crash-orderly',
      'disk-full',
      'disk-full',
      'silence',
      'silence',
      'pause',
      'pause',
      'pause-when-trained',
      ...(draws.chance(0.1) ? (['stop'] as const) : []),
    ]),
    lastsMs: draws.magnitude(50, 20_000),
  }))
  return { specs, crowd, misfortunes, calmAtMs }
}

/** Somebody who is there, slow perhaps, and does its work: with one of these a run must come to its end. */
function steadfast(draws: Draws, name: string, trusted: boolean): Nature {
  return {
    name,
    trusted,
    joinsAtMs: draws.chance(0.5) ? 0 : draws.magnitude(1_000, 60_000),
    examplesPerSecond: trusted ? draws.magnitude(300, 5_000) : draws.magnitude(10, 500),
    latencyMs: draws.magnitude(1, 300),
    lost: draws.pick([0, 0, 0.02]),
    twice: draws.pick([0, 0, 0.05]),
    vanishes: 0,
    backAfterMs: null,
    givesBack: 0,
    stalls: 0,
    prefetches: draws.chance(0.7),
    announces: draws.chance(0.3),
    tellsOutcomes: draws.chance(0.8),
    vice: null,
    viceChance: 0,
    wants: null,
  }
}

function stranger(draws: Draws, name: string, calmAtMs: number, runs: number): Nature {
  const wicked = draws.chance(0.35)
  return {
    name,
    trusted: false,
    joinsAtMs: draws.chance(0.4) ? 0 : draws.between(0, calmAtMs),
    examplesPerSecond: draws.magnitude(2, 2_000),
    latencyMs: draws.magnitude(1, 3_000),
    lost: draws.pick([0, 0.02, 0.1]),
    twice: draws.pick([0, 0.05, 0.3]),
    vanishes: draws.pick([0, 0, 0.05, 0.3]),
    backAfterMs: draws.chance(0.7) ? draws.magnitude(200, 60_000) : null,
    givesBack: draws.pick([0, 0, 0.1]),
    stalls: draws.pick([0, 0, 0.1, 0.5]),
    prefetches: draws.chance(0.7),
    announces: draws.chance(0.3),
    tellsOutcomes: draws.chance(0.8),
    vice: wicked ? draws.pick(VICES) : null,
    viceChance: wicked ? draws.pick([0.1, 0.5, 1]) : 0,
    wants: draws.chance(0.2) ? draws.whole(0, runs - 1) : null,
  }
}
