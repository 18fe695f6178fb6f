/**
 * Where immutable blobs are kept by their hash, so that a shard is downloaded once: in the browser's Cache Storage,
 * which outlives the tab, or else in memory. A cache may forget anything at any time, and refuse to remember.
 */
import { Recent } from './recent.ts'

export interface BlobCache {
  get(hash: string): Promise<Uint8Array | undefined>
  put(hash: string, bytes: Uint8Array): Promise<void>
}

/** All of MNIST, compressed, four times over. */
const MEMORY_BYTES = 48 * 1024 * 1024

export class MemoryBlobs implements BlobCache {
  private readonly blobs: Recent<string, Uint8Array>

  constructor(limitBytes = MEMORY_BYTES) {
    this.blobs = new Recent(limitBytes, (bytes) => bytes.length)
  }

  async get(hash: string): Promise<Uint8Array | undefined> {
    return this.blobs.get(hash)
  }

  async put(hash: string, bytes: Uint8Array): Promise<void> {
    this.blobs.set(hash, bytes)
  }
}

const CACHE_NAME = 'crowdgrad-blobs-1'

class StoredBlobs implements BlobCache {
  private readonly cache: Cache

  constructor(cache: Cache) {
    this.cache = cache
  }

  async get(hash: string): Promise<Uint8Array | undefined> {
    const found = await this.cache.match(keyOf(hash)).catch(() => undefined)
    return found && new Uint8Array(await found.arrayBuffer())
  }

  async put(hash: string, bytes: Uint8Array): Promise<void> {
    // A full disk is no reason not to train.
    await this.cache.put(keyOf(hash), new Response(bytes as Uint8Array<ArrayBuffer>)).catch(() => {})
  }
}

const keyOf = (hash: string): string => `/blobs/${hash}`

/** The best cache there is here. Cache Storage wants a secure origin, and a frame may be refused it. */
export async function openBlobCache(): Promise<BlobCache> {
  try {
    return new StoredBlobs(await caches.open(CACHE_NAME))
  } catch {
    return new MemoryBlobs()
  }
}
