/**
 * A synchronous run as one volunteer alone would have done it, that nothing ever happens to: what the crowd's must be
 * to the last bit, whoever computed what and in whichever order it came.
 */

import { History, type UpdateData } from '../../coordinator/run/history.ts'
import { Shards } from '../../coordinator/run/shards.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from './examples.ts'
import { gradient } from './gradient.ts'

export function trainedAlone(spec: RunSpec): History {
  const { strategy, codec, seed } = spec
  if (strategy.name !== 'synchronous') throw new Error('invariant: only a synchronous run has one outcome')
  const dataset = emptyDataset(spec.dataset)
  const history = new History(spec, dataset)
  const shards = new Shards(dataset.train, seed, 'shuffled')
  const { examples } = dataset.train
  const { size } = history.parameters
  for (let epoch = 0; epoch < spec.stop.epochs; epoch++) {
    for (let batch = 0; batch < examples; batch += strategy.batchSize) {
      const { version } = history.parameters
      const bytes = encodeVector(codecs[codec.down], history.parameters.snapshot())
      const end = Math.min(examples, batch + strategy.batchSize)
      for (let from = batch; from < end; from += strategy.portionSize) {
        const stretch = { epoch, from, to: Math.min(end, from + strategy.portionSize) }
        const segments = shards.segments([stretch])
        const payload = gradient({
          seed,
          segments,
          codec: codec.up,
          parametersCodec: codec.down,
          bytes,
          size,
          minibatches: 1,
        })
        const count = stretch.to - from
        const data: UpdateData = {
          lease: `${epoch}/${from}`,
          volunteer: 'alone',
          version,
          minibatches: 1,
          examples: count,
          lossSum: 0,
          correct: 0,
          computeMs: 0,
          stretches: [stretch],
          volunteers: 1,
        }
        history.fold({ seq: 1, run: 'alone', at: 0, kind: 'update', data, payload, pruned: false })
      }
    }
  }
  return history
}
