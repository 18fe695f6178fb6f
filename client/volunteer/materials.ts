/**
 * What a lease needs before it can be computed: the model, loaded into a trainer, the examples and the parameters.
 * All are kept: decoded shards up to a bound, the trainers of the last few models, the version fetched last.
 */
import { z } from 'zod'
import { codecs, decodeVector, payloadSize } from '../../shared/codec.ts'
import type { Layout } from '../../shared/layout.ts'
import type { Augmentation, Fixed, ModelBlob } from '../../shared/models.ts'
import type { Lease, Welcome } from '../../shared/protocol.ts'
import type { Shard } from '../../shared/shard.ts'
import type { Topology } from '../../shared/topology.ts'
import type { BlobCache } from './blobs.ts'
import type { Engine, Trainer } from './compute/engine.ts'
import { Examples, unpackShard } from './examples.ts'
import { handled } from './handled.ts'
import { Recent } from './recent.ts'
import type { Session } from './session.ts'
import { BadBlob, download, fetchBlob } from './transfer.ts'

/** A lease that can be computed as soon as it is started. */
export interface ReadyLease {
  readonly lease: Lease
  readonly model: LoadedModel
  readonly examples: Examples
}

export interface LoadedModel {
  readonly hash: string
  readonly trainer: Trainer
  /** Floats in its parameter vector. */
  readonly size: number
  /** Whether its objective has a second measure. */
  readonly measures: boolean
  readonly augment: Augmentation | null
}

const DECODED_SHARDS_BYTES = 96 * 1024 * 1024
/** Where leases overlap, two begun and the next one may have as many models. */
const LOADED_MODELS = 3

const count = z.int().min(0)
const layout = z.object({
  slots: z.array(z.object({ name: z.string(), shape: z.array(count), offset: count, size: count, init: z.unknown() })),
  size: count,
}) as unknown as z.ZodType<Layout>
const modelBlob = z.object({
  topology: z.custom<Topology>(
    (value) => (value as Topology | null)?.class_name === 'Sequential',
    'expected a Sequential topology',
  ),
  layout,
  fixed: z.object({ hash: z.string(), layout }).nullable(),
  inputShape: z.array(z.int().min(1)).min(1),
  classes: z.int().min(1),
  objective: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('classify') }),
    z.object({ kind: z.literal('reconstruct') }),
    z.object({
      kind: z.literal('contrastive'),
      steps: z.int().min(1),
      persistent: z.boolean(),
      hidden: z.enum(['sigmoid', 'gaussian']),
      // A run that began before there was a choice says nothing of these.
      visible: z.enum(['probabilities', 'samples']).default('probabilities'),
      labels: count.default(0),
    }),
  ]),
  augment: z
    .object({ shift: z.number().min(0), rotate: z.number().min(0), zoom: z.number().min(0).lt(1), flip: z.boolean() })
    .nullable(),
}) satisfies z.ZodType<ModelBlob>

export class Materials {
  private readonly session: Session
  private readonly cache: BlobCache
  private readonly engine: Engine
  private readonly shards = new Recent<string, Shard>(
    DECODED_SHARDS_BYTES,
    ({ inputs, labels }) => inputs.length + labels.length,
  )
  private readonly models = new Recent<string, LoadedModel>(
    LOADED_MODELS,
    () => 1,
    ({ trainer }) => trainer.dispose(),
  )

  /**
   * The parameters downloaded last, or on their way; several leases may start at one version. Of one welcome only: a
   * coordinator that lost its newest versions with its power makes others of the same number.
   */
  private newest: {
    readonly run: string
    readonly version: number
    readonly welcome: Welcome | null
    readonly floats: Promise<Float32Array>
  } | null = null

  constructor(session: Session, cache: BlobCache, engine: Engine) {
    this.session = session
    this.cache = cache
    this.engine = engine
  }

  async examples(lease: Lease, { augment }: LoadedModel): Promise<Examples> {
    const shards: Shard[] = []
    for (const { shard } of lease.segments) shards.push(await this.shard(shard))
    return new Examples(lease, shards, augment)
  }

  /** The parameters at a version: here already, on their way, or from now on. */
  parameters({ run, parametersCodec }: Lease, { size }: LoadedModel, version: number): Promise<Float32Array> {
    const { session, newest: known } = this
    const { welcome } = session
    if (known?.run === run && known.version === version && known.welcome === welcome) return known.floats
    const codec = codecs[parametersCodec]
    const floats = handled(
      download(session, { run, version }, payloadSize(codec, size)).then((bytes) => decodeVector(codec, bytes, size)),
    )
    const fetched = { run, version, welcome, floats }
    this.newest = fetched
    floats.catch(() => {
      if (this.newest === fetched) this.newest = null
    })
    return floats
  }

  dispose(): void {
    this.models.clear()
  }

  private async shard(hash: string): Promise<Shard> {
    const known = this.shards.get(hash)
    if (known) return known
    const shard = await unpackShard(await fetchBlob(this.session, this.cache, hash))
    this.shards.set(hash, shard)
    return shard
  }

  /** `inUse`: the models that are being computed with meanwhile, whose trainers have to stay. */
  async model(hash: string, inUse: readonly string[]): Promise<LoadedModel> {
    const known = this.models.get(hash)
    if (known) return known
    const text = new TextDecoder().decode(await fetchBlob(this.session, this.cache, hash))
    const blob = modelBlob.safeParse(JSON.parse(text))
    if (!blob.success) throw new BadBlob(`not a model: ${blob.error.issues[0]?.message}`)
    const { augment, ...description } = blob.data
    const fixed = description.fixed && (await this.fixed(description.fixed))
    const trainer = await this.engine.load({ ...description, fixed })
    for (const used of inUse) this.models.get(used)
    const measures = description.objective.kind !== 'classify'
    const model = { hash, trainer, size: description.layout.size, measures, augment }
    this.models.set(hash, model)
    return model
  }

  private async fixed({ hash, layout }: NonNullable<ModelBlob['fixed']>): Promise<Fixed> {
    const bytes = await fetchBlob(this.session, this.cache, hash)
    if (bytes.length !== 4 * layout.size) {
      throw new BadBlob(`${layout.size} fixed parameters are ${4 * layout.size} bytes, not ${bytes.length}`)
    }
    return { layout, values: decodeVector(codecs.f32, bytes, layout.size) }
  }
}
