/**
 * The seed's deep belief network 784-500-500-2000-10: three RBMs by CD-1, ten epochs each, then 1980 iterations
 * of the whole network.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import { CHOICE_SEED } from '../row.ts'
import { specOf } from '../spec-file.ts'
import { classifierRow } from './classifier.ts'
import { portions } from './portions.ts'

type Changes = Record<string, unknown>

const of =
  (file: string, batchSize: number) =>
  (seed: number, volunteers: number, changes: Changes = {}): RunSpec =>
    specOf(file, {
      seed,
      strategy: portions(batchSize, volunteers),
      pretrain: { strategy: portions(100, volunteers) },
      ...changes,
    })

/**
 * Minibatches of 1000, as the published fine-tuning has them: 1980 iterations are 33 epochs, enough for gentle dropout.
 */
const dbnSpec = of('dbn', 1000)

/** The pre-training is the published one; what is chosen is the fine-tuning. */
const rates = [0.002, 0.004, 0.006]

export const dbn = classifierRow({
  name: 'dbn',
  title: 'DBN 784-500-500-2000-10, 1980 iterations',
  spec: dbnSpec,
  shows: 'error',
  reference: 1.96,
  source: "the seed's slide",
  reach: 1.4,
  aim: 1.2,
  grid: (volunteers) =>
    Object.fromEntries(
      rates.map((rate) => [`rate-${rate}`, dbnSpec(CHOICE_SEED, volunteers, { updateRule: { name: 'adam', rate } })]),
    ),
})

/**
 * Without dropout, in minibatches of 120, for long: the noise of a high rate, that goes to 0 in the second half, in
 * place of an early stop.
 */
const longer = of('dbn-long', 120)

export const dbnLong = classifierRow({
  name: 'dbn-long',
  title: 'DBN 784-500-500-2000-10, fine-tuned for 20 epochs',
  spec: longer,
  shows: 'error',
  reference: 1.2,
  source: "Hinton & Salakhutdinov 2006; their code's 200 epochs",
  reach: 1.3,
  aim: 1.18,
  grid: (volunteers) =>
    Object.fromEntries(
      [0.002, 0.004, 0.008].map((rate) => [`rate-${rate}`, longer(CHOICE_SEED, volunteers, { updateRule: { rate } })]),
    ),
})

/**
 * As row `dbn`, for twice as long, with more dropout: of the hidden units still less than published, which is for many
 * more updates.
 */
const dropped = of('dbn-dropout', 1000)

export const dbnDropout = classifierRow({
  name: 'dbn-dropout',
  title: 'DBN 784-500-500-2000-10, fine-tuned with dropout',
  spec: dropped,
  shows: 'error',
  reference: 0.92,
  source: 'Srivastava et al. 2014, about 1 M updates',
  reach: 1.1,
  aim: 1,
  grid: (volunteers) => ({
    gentle: dropped(CHOICE_SEED, volunteers, { model: { dropout: { input: 0.1, hidden: 0.3 } } }),
    stronger: dropped(CHOICE_SEED, volunteers),
    published: dropped(CHOICE_SEED, volunteers, { model: { dropout: { input: 0.2, hidden: 0.5 } } }),
  }),
})
