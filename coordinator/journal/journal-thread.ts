/** The journal's own thread: does what asked-thread.ts sends, one request after the other, and answers each. */
import { type MessagePort, workerData } from 'node:worker_threads'
import { type Entry, type Journal, StorageError, type StorageFault } from './journal.ts'
import { openSqliteJournal, type RowJournal, type SqliteJournalOptions } from './sqlite-journal.ts'
import { type Filled, filledRows } from './tail.ts'

export interface JournalThreadData {
  /** This file, for thread.mjs. */
  entry: string
  path: string
  options: SqliteJournalOptions
  port: MessagePort
  /** Counts the replies: what a waiting asker sleeps on. */
  replies: Int32Array
}

export interface Request {
  id: number
  /** A method of the journal; `page` is a part of `read`, and `move` takes what the tail was filled with. */
  method: Exclude<keyof Journal, 'read' | 'append'> | 'open' | 'move' | 'page'
  args: unknown[]
}
export type Reply = { id: number; result: unknown } | { id: number; fault: StorageFault | 'mistake'; message: string }

/** Bytes of payloads in one page of `read`, about. */
const PAGE_BYTES = 4 * 1024 * 1024

const { path, options, port, replies } = workerData as JournalThreadData
let journal: RowJournal | null = null

function answer({ method, args }: Request): unknown {
  if (method === 'open') {
    journal = openSqliteJournal(path, options)
    return journal.append([])
  }
  if (journal === null) throw new StorageError('failed', `the journal ${path} is not open`)
  if (method === 'move') return journal.insert(filledRows(path, args[0] as Filled))
  if (method === 'page') return page(journal, args[0] as string, args[1] as number, args[2] as number)
  return (journal[method] as (...args: unknown[]) => unknown).apply(journal, args)
}

/** Some of the run's entries with after < seq < end; none when there are no more. */
function page(of: Journal, run: string, after: number, end: number): Entry[] {
  const entries: Entry[] = []
  let sizeBytes = 0
  for (const entry of of.read(run, after)) {
    if (entry.seq >= end) break
    entries.push(entry)
    sizeBytes += entry.payload?.length ?? 0
    if (sizeBytes >= PAGE_BYTES || entries.length >= 1000) break
  }
  return entries
}

port.on('message', (request: Request) => {
  let reply: Reply
  try {
    reply = { id: request.id, result: answer(request) }
  } catch (error) {
    const fault = error instanceof StorageError ? error.fault : error instanceof TypeError ? 'mistake' : 'failed'
    reply = { id: request.id, fault, message: error instanceof Error ? error.message : String(error) }
  }
  port.postMessage(reply)
  Atomics.add(replies, 0, 1)
  Atomics.notify(replies, 0)
  if (request.method === 'close') port.close()
})
