/**
 * What asynchrony costs: 784-256-10 ReLU, minibatches of 64, 20 epochs of accepted examples, by 1, 8 and 32 volunteers
 * of equal pace who never wait for each other. First plain asynchronous SGD, each crowd at its best rate, for
 * reference; then the best policy found for the crowd. What is claimed is the loss of accuracy against one volunteer,
 * by plain SGD or by Adam, whichever comes out better.
 *
 * Staleness is real: a volunteer's lease is bound to its parameters when its update before is accepted, and takes its
 * paced time, in which all the others' updates come in. `behind` counts these, and is crowd - 1 whatever a buffer makes
 * of versions; `computing` is the share of all volunteers' time in which they did compute.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import {
  beginning,
  CHOICE_SEED,
  type Claim,
  type Crowd,
  meanOf,
  type Outcomes,
  type Row,
  type Settings,
  type Trial,
  valuesOf,
} from '../row.ts'
import { heldOut, quickened, specOf } from '../spec-file.ts'
import { computingShare, lastStage, testError, trainingCurve, type Update } from '../trained-run.ts'

interface Changes {
  readonly updateRule: Readonly<Record<string, unknown>>
  readonly policy?: Readonly<Record<string, unknown>>
  /** Of a rate that goes linearly to 0. */
  readonly schedule?: { readonly hold: number }
}
const sgd = (rate: number, policy?: Changes['policy']): Changes => ({ updateRule: { name: 'sgd', rate }, policy })
interface Adam {
  readonly beta1?: number
  readonly beta2?: number
  readonly hold?: number
}
/**
 * Adam's step is the same in flat and in steep directions, which is where staleness hurts; asynchrony is its momentum.
 */
const adam = (rate: number, buffer: number, { hold = 0, ...more }: Adam = {}): Changes => ({
  updateRule: { name: 'adam', rate, beta1: 0, ...more },
  policy: { buffer },
  schedule: { hold },
})

/** Plain asynchronous SGD: rate·(staleness + 1) about 1.6 is stable, 4 diverges (ALGORITHMS §6); the best is below. */
const PLAIN: Record<number, Changes> = { 1: sgd(0.5), 8: sgd(0.1), 32: sgd(0.03) }
/** One volunteer for whom nothing is stale may choose as well: a crowd is compared with the better one. */
const ALONE: Changes = adam(0.001, 1, { beta1: 0.9 })
/** Chosen on the last 10,000 training digits by a simulation of the arrivals, then fixed; `--choose` looks again. */
const POLICY: Record<number, Changes> = { 8: adam(0.002, 2), 32: adam(0.0005, 1, { beta2: 0.95, hold: 0.3 }) }
/** What `--choose` tries. */
const GRID: Record<number, readonly Changes[]> = {
  1: [sgd(0.2), sgd(0.5), ALONE],
  8: [
    ...[sgd(0.1), sgd(0.2), sgd(0.2, { compensation: {} })],
    ...[adam(0.001, 1), adam(0.001, 2), adam(0.002, 2), adam(0.002, 4), adam(0.001, 2, { beta1: 0.9 })],
  ],
  32: [
    ...[sgd(0.02), sgd(0.03), sgd(0.5, { weight: { name: 'inverse' } })],
    ...[adam(0.0003, 1), adam(0.0005, 1), adam(0.0005, 1, { hold: 0.3 }), adam(0.0005, 1, { hold: 0.6 })],
    ...[adam(0.0005, 1, { beta2: 0.99, hold: 0.3 }), adam(0.0005, 1, { beta2: 0.95, hold: 0.3 })],
    ...[adam(0.001, 4), adam(0.003, 16, { beta1: 0.9 })],
  ],
}

/** ALGORITHMS §6: plain SGD at 20 epochs. */
const REFERENCE: Record<number, number> = { 1: 1.92, 8: 2.22, 32: 3.65 }
/** Points of error that a crowd may lose against one volunteer. */
const REACH: Record<number, number> = { 8: 0.2, 32: 0.6 }
const AIM: Record<number, number> = { 8: 0.1, 32: 0.3 }
const BATCH = 64
/** Of the whole crowd, at most: about what two cores can compute, send and fold. With less all are slower alike. */
const UPDATES_A_SECOND = 100
const PROCESSES = 2

const spec = (seed: number, { updateRule, policy = {}, schedule }: Changes): RunSpec =>
  specOf('mlp', {
    name: 'What asynchrony costs',
    seed,
    model: { hidden: [256], activation: 'relu' },
    // Nothing is refused for its age; as much as delay compensation can keep.
    strategy: { batchSize: BATCH, pushEvery: 1, warmStart: 0, maxStaleness: 600, policy },
    updateRule,
    schedule: { shape: 'linear', final: 0, ...schedule },
    // Adam looks at the smallest gradients as closely as at the largest, which int8 rounds away.
    codec: { up: 'f16' },
    stop: { epochs: 20 },
  })

const crowdOf = (volunteers: number): Crowd => ({
  volunteers,
  measured: { pace: (UPDATES_A_SECOND * BATCH) / volunteers, together: Math.ceil(volunteers / PROCESSES) },
})
const plain = (volunteers: number) => `plain-${volunteers}-`
const policy = (volunteers: number) => `policy-${volunteers}-`
const alone = 'adam-1-'

const trialOf = (name: string, seed: number, volunteers: number, changes: Changes, settings: Settings): Trial => ({
  name,
  seed,
  spec: quickened(spec(seed, changes), settings, 2_000),
  crowd: crowdOf(volunteers),
})

const entries = (table: Record<number, Changes>) =>
  Object.entries(table).map(([volunteers, changes]) => [Number(volunteers), changes] as const)

export const asynchrony: Row = {
  name: 'asynchrony',
  title: 'What asynchrony costs: 784-256-10, 20 epochs, minibatches of 64',
  trials: (settings) =>
    settings.seeds.flatMap((seed) => [
      ...entries(PLAIN).map(([w, changes]) => trialOf(`${plain(w)}seed-${seed}`, seed, w, changes, settings)),
      trialOf(`${alone}seed-${seed}`, seed, 1, ALONE, settings),
      ...entries(POLICY).map(([w, changes]) => trialOf(`${policy(w)}seed-${seed}`, seed, w, changes, settings)),
    ]),
  read: (run) => ({
    figures: {
      error: testError(run),
      staleness: run.meanStaleness,
      behind: meanOf(behind(run.updates)),
      computing: computingShare(run.updates),
    },
    curves: { training: trainingCurve(run, lastStage(run), 'error', 2) },
  }),
  claims: (outcomes): Claim[] => [
    ...entries(PLAIN).map(
      ([w]): Claim => ({
        figure: `test error of plain asynchronous SGD, ${w} volunteer${w === 1 ? '' : 's'}`,
        unit: ' %',
        values: valuesOf(beginning(outcomes, plain(w)), 'error'),
        reference: REFERENCE[w],
        source: 'ALGORITHMS §6, measured',
        better: 'lower',
        reach: null,
        aim: null,
      }),
    ),
    ...entries(POLICY).map(
      ([w, changes]): Claim => ({
        figure: `test error above one volunteer's best, ${w} volunteers with ${inWords(changes)}`,
        unit: ' points',
        values: penalties(outcomes, w),
        reference: Number((REFERENCE[w] - REFERENCE[1]).toFixed(2)),
        source: 'plain SGD, ALGORITHMS §6',
        better: 'lower',
        reach: REACH[w],
        aim: AIM[w],
      }),
    ),
  ],
  remarks: (outcomes) => {
    const kinds = [
      ...entries(PLAIN).map(([w]) => [`plain, ${w}`, plain(w)] as const),
      ['Adam, 1', alone] as const,
      ...entries(POLICY).map(([w]) => [`policy, ${w}`, policy(w)] as const),
    ]
    const said = kinds.map(([words, prefix]) => {
      const of = beginning(outcomes, prefix)
      const [error, stale, others, busy] = ['error', 'staleness', 'behind', 'computing'].map((figure) =>
        meanOf(valuesOf(of, figure)),
      )
      return `${words}: error ${error.toFixed(2)} %, staleness ${stale.toFixed(1)}, behind by ${others.toFixed(1)}, computing ${Math.round(100 * busy)} %`
    })
    return [
      `Mean staleness in versions, updates of others accepted since an update's lease was bound, and share of the volunteers' time spent computing: ${said.join('; ')}.`,
      'Nobody waits for another.',
    ]
  },
  charts(outcomes) {
    const dots = (table: Record<number, Changes>, prefix: (w: number) => string, name: string, colour: number) => {
      const values = entries(table).map(([w]) => [w, valuesOf(beginning(outcomes, prefix(w)), 'error')] as const)
      return {
        name,
        points: values.map(([w, errors]) => [w, meanOf(errors)] as const),
        spread: values.map(([, errors]) => [Math.min(...errors), Math.max(...errors)] as const),
        as: 'dots' as const,
        colour,
      }
    }
    return [
      {
        title: 'Test error after 20 epochs of accepted examples',
        x: { label: 'volunteers', logarithmic: true, from: 0.8, to: 40, ticks: [1, 8, 32] },
        y: { label: 'test error, %', from: 0 },
        curves: [
          {
            name: 'plain, reference',
            points: Object.entries(REFERENCE).map(([w, error]) => [Number(w), error] as const),
            as: 'dashes',
            colour: 3,
          },
          dots(PLAIN, plain, 'plain SGD', 1),
          dots(POLICY, policy, 'best policy', 0),
        ],
      },
      {
        title: 'Training error',
        x: { label: 'epoch', from: 0 },
        y: { label: 'error, % (logarithmic)', logarithmic: true },
        curves: [...outcomes.values()].map(({ trial, curves }) => ({
          name: trial.replace(/-seed-\d+$/, ''),
          points: curves.training.filter(([, error]) => error > 0),
          colour: [...new Set([...outcomes.keys()].map((other) => other.replace(/-seed-\d+$/, '')))].indexOf(
            trial.replace(/-seed-\d+$/, ''),
          ),
        })),
      },
    ]
  },
  choices: (settings) => ({
    decides: 'error',
    trials: Object.entries(GRID).flatMap(([volunteers, all]) =>
      all.map((changes): Trial => {
        const name = `choose-${volunteers}-${inWords(changes).replace(/[^a-z0-9.]+/g, '-')}`
        const trial = trialOf(name, CHOICE_SEED, Number(volunteers), changes, settings)
        return { ...trial, spec: heldOut(trial.spec) }
      }),
    ),
  }),
}

/** `adam 0.002 beta1 0, buffer 2`: what is said of the rule, the policy and the schedule. */
function inWords({ updateRule: { name, rate, ...rule }, policy = {}, schedule }: Changes): string {
  const named = (settings: object): string[] =>
    Object.entries(settings).map(([setting, value]) =>
      [setting, ...(isObject(value) ? Object.values(value) : [value])].join(' '),
    )
  const held = schedule === undefined || schedule.hold === 0 ? [] : [`rate held for ${schedule.hold}`]
  return [[name, rate, ...named(rule)].join(' '), ...named(policy), ...held].join(', ')
}
const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null

function penalties(outcomes: Outcomes, volunteers: number): number[] {
  const [sgd, adam] = [plain(1), alone].map((prefix) => valuesOf(beginning(outcomes, prefix), 'error'))
  return valuesOf(beginning(outcomes, policy(volunteers)), 'error').map((error, i) => error - Math.min(sgd[i], adam[i]))
}

/** For each update, how many of others were accepted since the volunteer's last one, when its lease was bound. */
function behind(updates: readonly Update[]): number[] {
  const last = new Map<string, number>()
  return updates.flatMap(({ volunteer }, i) => {
    const before = last.get(volunteer)
    last.set(volunteer, i)
    return before === undefined ? [] : [i - before - 1]
  })
}
