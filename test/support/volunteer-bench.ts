/**
 * What a volunteer is tested with: a coordinator small enough to see through that has a model, two shards and six
 * versions of it, volunteers that compute on plain loops, and what their leases come to, computed beside them.
 */
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach } from 'vitest'
import { MemoryBlobs } from '../../client/volunteer/blobs.ts'
import { Examples } from '../../client/volunteer/examples.ts'
import { Volunteer, type VolunteerOptions } from '../../client/volunteer/volunteer.ts'
import type { VolunteerStatus } from '../../client/volunteer/worker-messages.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { buildModel } from '../../shared/models.ts'
import type { Lease } from '../../shared/protocol.ts'
import { encodeShard, type Shard } from '../../shared/shard.ts'
import { PromptClock } from './prompt-clock.ts'
import { SoftmaxEngine, softmaxTrainer } from './softmax-engine.ts'
import { WireCoordinator } from './wire-coordinator.ts'

export const model = buildModel({ template: 'softmax' }, { inputShape: [2, 2, 1], classes: 3 }, null)
const shards: Shard[] = [0, 1].map((index) => ({
  examples: 40,
  inputShape: [2, 2, 1],
  inputs: Uint8Array.from({ length: 160 }, (_, i) => (i * 37 + 11 * index) & 255),
  labels: Uint8Array.from({ length: 40 }, (_, i) => (i * 7 + index) % 3),
}))
const VERSIONS = 6
export const parametersOf = (version: number): Float32Array =>
  Float32Array.from({ length: model.layout.size }, (_, i) => Math.sin(i + version))

class VolunteerBench {
  readonly coordinator: WireCoordinator
  private readonly hashes: string[]
  private readonly modelHash: string
  private readonly volunteers: { volunteer: Volunteer; ended: Promise<VolunteerStatus> }[] = []

  private constructor(coordinator: WireCoordinator) {
    this.coordinator = coordinator
    this.hashes = shards.map((shard) => coordinator.putBlob(gzipSync(encodeShard(shard))))
    this.modelHash = coordinator.putBlob(new TextEncoder().encode(JSON.stringify(model)))
    for (let version = 0; version < VERSIONS; version++) {
      coordinator.putVersion('r', version, encodeVector(codecs.f32, parametersOf(version)))
    }
  }

  static async open(): Promise<VolunteerBench> {
    return new VolunteerBench(await WireCoordinator.listen())
  }

  async close(): Promise<void> {
    for (const { volunteer } of this.volunteers) volunteer.stop()
    await Promise.all(this.volunteers.map(({ ended }) => ended))
    await this.coordinator.close()
  }

  volunteer(options: Partial<VolunteerOptions> = {}) {
    const statuses: VolunteerStatus[] = []
    const engine = new SoftmaxEngine()
    const volunteer = new Volunteer({
      address: this.coordinator.url,
      openEngine: async () => engine,
      cache: new MemoryBlobs(),
      clock: new PromptClock(),
      uniform: () => 0.5,
      onStatus: (status) => statuses.push(status),
      ...options,
    })
    const started = { volunteer, ended: volunteer.run(), statuses, engine }
    this.volunteers.push(started)
    return started
  }

  lease(id: string, change: Partial<Lease> = {}): Lease {
    const [first, second] = this.hashes
    return {
      id,
      run: 'r',
      stage: 0,
      kind: 'gradient',
      version: null,
      model: this.modelHash,
      seed: 5,
      shuffled: true,
      fraction: 1,
      reduce: 'mean',
      compensated: false,
      overlaps: false,
      sure: false,
      batchSize: 8,
      segments: [
        { shard: second, shardIndex: 1, epoch: 2, from: 30, to: 40 },
        { shard: first, shardIndex: 0, epoch: 2, from: 0, to: 10 },
      ],
      budgetMs: 1e9,
      codec: 'f32',
      parametersCodec: 'f32',
      ...change,
    }
  }

  updated(count: number): Promise<void> {
    return this.coordinator.until(() => this.coordinator.updates.length >= count)
  }
}

/** A bench for each test of a file. */
export function benchForEachTest() {
  let bench: VolunteerBench
  beforeEach(async () => {
    bench = await VolunteerBench.open()
  })
  afterEach(() => bench.close())
  return {
    get coordinator() {
      return bench.coordinator
    },
    volunteer: (options?: Partial<VolunteerOptions>) => bench.volunteer(options),
    lease: (id: string, change?: Partial<Lease>) => bench.lease(id, change),
    updated: (count: number) => bench.updated(count),
  }
}

/** What the lease comes to, computed beside the volunteer. */
export async function expected(of: Lease, parameters: Float32Array, localRate: number) {
  const trainer = softmaxTrainer(model)
  trainer.begin(parameters)
  const order = of.segments.map(({ shardIndex }) => shards[shardIndex])
  for (const minibatch of new Examples(of, order).minibatches()) {
    const weight = of.reduce === 'sum' ? minibatch.count : 1
    if (of.kind === 'gradient') trainer.step(minibatch, { localRate, weight })
    else trainer.evaluate(minibatch)
  }
  return { ...(await trainer.finish()), replica: await trainer.replica() }
}

/** For what no message tells: looks again at every turn of the event loop. */
export async function reached(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
