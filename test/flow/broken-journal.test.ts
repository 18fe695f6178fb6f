/** The journal's thread breaks while volunteers train: they are told, and the process ends and starts again. */
import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { afterAll, afterEach, expect, test } from 'vitest'
import { StorageError } from '../../coordinator/journal/journal.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { openThreadJournal } from '../../coordinator/journal/thread-journal.ts'
import type { ApiError, RunDetail } from '../../shared/api.ts'
import { expectRefusal } from '../support/bystander.ts'
import { newFolder, operatorRequest, removeFolders, SMALL, startCoordinator } from '../support/coordinator.ts'
import { type Program, startProgram } from '../support/processes.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

afterAll(removeFolders)

/** What a test leaves running when it fails. */
const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

/** Node tells of every thread that starts; the coordinator's first is its journal. */
function firstThread(): Promise<Worker> {
  return new Promise((resolve) => {
    const started = (worker: Worker) => {
      // Those of module loaders are no thread of ours.
      if (worker.constructor.name !== 'Worker') return
      process.off('worker', started)
      resolve(worker)
    }
    process.on('worker', started)
  })
}

test('when the thread ends, all that comes later is refused, and nothing of before is lost [J1] [J3] [G1]', async () => {
  const broken: Error[] = []
  let told = () => {}
  const gone = new Promise<void>((resolve) => {
    told = resolve
  })
  const thread = firstThread()
  const coordinator = await startCoordinator({
    onBroken: (error) => {
      broken.push(error)
      told()
    },
  })
  ends.push(() => coordinator.close())
  const worker = await thread
  const { runs } = coordinator
  const { run } = await coordinator.createRun(SMALL)
  const volunteers = await Promise.all([1, 2, 3].map(() => SyntheticVolunteer.join(coordinator.url, { run })))
  ends.push(() => volunteers.map((volunteer) => volunteer.close()))
  await volunteers[0].work(2)
  const begun = await Promise.all(volunteers.map((volunteer) => volunteer.begin()))
  const before = coordinator.bits(run)
  expect(broken).toEqual([])

  void worker.terminate()
  await gone
  const sent = await Promise.all(volunteers.map((volunteer, i) => volunteer.send(begun[i].lease, begun[i].start)))
  for (const reply of sent) {
    expectRefusal(reply, 'storage-failed', /thread ended.*not taken, send it again/)
    expect(reply).toHaveProperty('retryAfterMs')
  }
  expect(broken.map(({ message }) => message)).toEqual(["the journal's thread ended"])
  expect(broken[0]).toBeInstanceOf(StorageError)
  expect(coordinator.bits(run).equals(before)).toBe(true)

  // Its lease is as it was, and so is the refusal.
  expectRefusal(await volunteers[0].send(begun[0].lease, begun[0].start), 'storage-failed')
  const health = await fetch(`${coordinator.url}/healthz`)
  expect(health.status).toBe(503)
  expect(await health.json()).toEqual({ ok: false, storage: "the journal's thread ended" })
  for (const path of ['/api/runs', `/api/runs/${run}/pause`]) {
    const response = await coordinator.api('POST', path, path === '/api/runs' ? SMALL : undefined)
    expect(response.status).toBe(503)
    expect(((await response.json()) as ApiError).error.code).toBe('storage-failed')
  }
  expect(runs.list().map(({ state }) => state)).toEqual(['running'])
  expect(broken).toHaveLength(1)

  // What was accepted just before is with whoever opens the journal next, moved into SQLite or not.
  const copy = newFolder()
  cpSync(coordinator.folder, copy, { recursive: true })
  const journal = openSqliteJournal(join(copy, 'journal.sqlite'))
  expect([...journal.read(run, 0)].filter(({ kind }) => kind === 'update')).toHaveLength(2)
  journal.close()
})

test('the process ends when its journal does, says what to do, and starts again with all that it acknowledged [J1]', async () => {
  const folder = newFolder()
  // Ends the journal's thread when the process is told to; the thread's own loader runs this, too.
  const breaker = join(newFolder(), 'breaker.mjs')
  writeFileSync(
    breaker,
    `import { isMainThread } from 'node:worker_threads'
    const threads = []
    if (isMainThread) {
      process.on('worker', (worker) => worker.constructor.name === 'Worker' && threads.push(worker))
      process.on('SIGUSR2', () => threads[0].terminate())
    }`,
  )
  const launch = (environment: Record<string, string>): Program => {
    const program = startProgram('coordinator/main.ts', [], { PORT: '0', CROWDGRAD_DATA: folder, ...environment })
    ends.push(() => program.end())
    return program
  }
  const up = async (program: Program) => {
    const [, url, token] = await program.printed(/console +(\S+)\/console\?token=(\S+)/)
    return { url, token }
  }
  const first = launch({ NODE_OPTIONS: `--import=${breaker}` })
  const server = await up(first)
  const { run } = (await (await operatorRequest(server, 'POST', '/api/runs', SMALL)).json()) as RunDetail
  const volunteer = await SyntheticVolunteer.join(server.url, { run })
  ends.push(() => volunteer.close())
  await volunteer.work(3)
  first.child.kill('SIGUSR2')
  expect(await first.exit).toBe(1)
  expect(first.errors().trim()).toMatch(/^crowdgrad: the journal's thread ended;.* safe, start again$/)

  const second = launch({})
  const detail = (await (await operatorRequest(await up(second), 'GET', `/api/runs/${run}`)).json()) as RunDetail
  expect(detail).toMatchObject({ state: 'running', updatesAccepted: 3, examples: 30 })
})

test('a disk that does not answer in time breaks the journal, though nobody waits for it [G1]', async () => {
  const path = join(newFolder(), 'journal.sqlite')
  let broke = (_error: StorageError) => {}
  const broken = new Promise<StorageError>((resolve) => {
    broke = resolve
  })
  // A quarter of a gigabyte is never moved within five milliseconds.
  const journal = await openThreadJournal(path, { onFault: () => {}, onBroken: broke }, { answerWithinMs: 5 })
  const entry = { run: 'r', at: 0, kind: 'update', data: null, payload: new Uint8Array(256 * 1024 * 1024) }
  expect(journal.append([entry])).toBe(1)
  const error = await broken
  expect(error).toBeInstanceOf(StorageError)
  expect(error.message).toBe('the journal did not answer within 0.005 s')
  expect(() => journal.append([entry])).toThrow(error)
})

test('time in which the process itself was stopped is not counted: a frozen container goes on', async () => {
  const path = join(newFolder(), 'journal.sqlite')
  let broke = (_error: StorageError) => {}
  const broken = new Promise<StorageError>((resolve) => {
    broke = resolve
  })
  const answerWithinMs = 500
  const journal = await openThreadJournal(path, { onFault: broke, onBroken: broke }, { answerWithinMs })
  ends.push(() => journal.close())
  expect(journal.append([{ run: 'r', at: 0, kind: 'update', data: null, payload: new Uint8Array(1_000) }])).toBe(1)
  const saved = new Promise<string>((resolve) => {
    journal.saveCheckpoint({ run: 'r', seq: 1, state: {}, vectors: [] }, () => resolve('saved'))
  })
  // What is asked is on its way; nothing that comes back is heard for three times as long as it may take, and then
  // timers are what comes first.
  await new Promise(setImmediate)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3 * answerWithinMs)
  expect(await Promise.race([saved, broken])).toBe('saved')
})
