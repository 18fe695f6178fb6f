/** A full disk, a damaged journal, and the other reasons for which a coordinator cannot start. */
import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { openThreadJournal } from '../../coordinator/journal/thread-journal.ts'
import type { ApiError } from '../../shared/api.ts'
import type { Refusal } from '../../shared/protocol.ts'
import { expectRefusal } from '../support/bystander.ts'
import { newFolder, removeFolders, SMALL, startCoordinator } from '../support/coordinator.ts'
import { startProgram } from '../support/processes.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

afterAll(removeFolders)

describe('storage', () => {
  const maxPages = 150
  const silent = { onFault: () => {}, onBroken: () => {} }
  test.each([
    ['', async (path: string) => openSqliteJournal(path, { maxPages })],
    [' behind a tail', (path: string) => openThreadJournal(path, silent, { maxPages })],
  ])(
    'on a full disk%s updates and runs are refused, nothing is half done, and training goes on once there is room [J1] [T1]',
    async (_how, open) => {
      const dataFolder = newFolder()
      const path = join(dataFolder, 'journal.sqlite')
      const full = await startCoordinator({ dataFolder, journal: await open(path) })
      const { run } = await full.createRun({ ...SMALL, journal: 'everything' })
      const volunteer = await SyntheticVolunteer.join(full.url, { run })
      const refused = await (async () => {
        for (let i = 0; i < 2_000; i++) {
          const { lease, start } = await volunteer.begin()
          const before = full.bits(run)
          const reply = await volunteer.send(lease, start)
          if (!reply.ok) return { lease, start, reply, before }
        }
        throw new Error('the disk never became full')
      })()
      expect(volunteer.acknowledged.length).toBeGreaterThan(3)
      expectRefusal(refused.reply, 'storage-full', /disk is full.*not taken, send it again/)
      expect((refused.reply as Refusal).retryAfterMs).toBeGreaterThan(0)
      expectRefusal(await volunteer.send(refused.lease, refused.start), 'storage-full')
      expect(full.bits(run).equals(refused.before)).toBe(true)

      const health = await fetch(`${full.url}/healthz`)
      expect(health.status).toBe(503)
      expect(await health.json()).toMatchObject({ ok: false, storage: /disk is full/ })
      // What is smaller than an update may still find room, for a while.
      const refusal = async (doing: () => Promise<Response>) => {
        for (let i = 0; i < 300; i++) {
          const response = await doing()
          if (response.status >= 400) return [response.status, ((await response.json()) as ApiError).error]
        }
        throw new Error('the disk never became full')
      }
      const disk = { code: 'storage-full', message: expect.stringMatching(/disk is full/) }
      expect(await refusal(() => full.api('POST', '/api/runs', SMALL))).toEqual([507, disk])
      const made = full.runs.list().length
      const verbs = ['pause', 'resume']
      expect(await refusal(() => full.api('POST', `/api/runs/${run}/${verbs.reverse()[1]}`))).toEqual([507, disk])
      const { state } = full.runs.get(run)!
      expect(full.runs.list().length).toBe(made)
      volunteer.close()
      await full.stop()

      // The operator made room.
      const roomy = await startCoordinator({ dataFolder })
      expect(roomy.bits(run).equals(refused.before)).toBe(true)
      expect(roomy.runs.list().length).toBe(made)
      expect(roomy.runs.get(run)!.detail(0)).toMatchObject({ state, updatesAccepted: volunteer.acknowledged.length })
      if (state === 'paused') await roomy.api('POST', `/api/runs/${run}/resume`)
      const again = await SyntheticVolunteer.join(roomy.url, { run })
      await again.work(5)
      expect((await fetch(`${roomy.url}/healthz`)).status).toBe(200)
      again.close()
      await roomy.close()
    },
  )

  test('a coordinator whose journal is damaged, whose port is taken or whose settings are wrong says so and ends with 1', async () => {
    const whole = newFolder()
    const writer = await startCoordinator({ dataFolder: whole })
    await writer.createRun(SMALL)
    await writer.stop()
    const bytes = readFileSync(join(whole, 'journal.sqlite'))
    const folderWith = (make: (path: string) => void) => {
      const folder = newFolder()
      make(join(folder, 'journal.sqlite'))
      return folder
    }
    const notADatabase = folderWith((path) =>
      writeFileSync(path, 'Dear diary, today I trained a network.\n'.repeat(500)),
    )
    const truncated = folderWith((path) => {
      writeFileSync(path, bytes)
      const file = openSync(path, 'r+')
      ftruncateSync(file, Math.floor(statSync(path).size / 2))
      closeSync(file)
    })
    // Every page but the first is overwritten.
    const corrupt = folderWith((path) => {
      writeFileSync(path, bytes)
      const file = openSync(path, 'r+')
      writeSync(file, Buffer.alloc(bytes.length - 8192, 0xa5), 0, bytes.length - 8192, 8192)
      closeSync(file)
    })
    const inUse = newFolder()
    const user = await startCoordinator({ dataFolder: inUse })
    const other = createServer().listen(0)
    const taken = String((other.address() as { port: number }).port)
    const file = join(newFolder(), 'a-file')
    writeFileSync(file, '')

    const cases: [string, Record<string, string>, RegExp][] = [
      [
        'not a database',
        { CROWDGRAD_DATA: notADatabase },
        /journal\.sqlite is damaged \(it is not a SQLite file\).*move it aside/,
      ],
      ['truncated', { CROWDGRAD_DATA: truncated }, /journal\.sqlite is damaged.*restore a copy/],
      ['corrupt', { CROWDGRAD_DATA: corrupt }, /journal\.sqlite is damaged.*restore a copy/],
      ['in use', { CROWDGRAD_DATA: inUse }, /in use by another process.*choose another folder/],
      ['port taken', { PORT: taken }, new RegExp(`port ${taken} is taken.*choose another`)],
      ['port nonsense', { PORT: 'eighty' }, /PORT is "eighty"; expected a whole number from 0 to 65535/],
      ['folder is a file', { CROWDGRAD_DATA: file }, /cannot keep runs in .*a-file, expected a folder to write to/],
      ['log level', { CROWDGRAD_LOG: 'chatty' }, /CROWDGRAD_LOG is "chatty"; expected one of trace, debug/],
    ]
    const started = cases.map(([, environment]) =>
      startProgram('coordinator/main.ts', [], { PORT: '0', CROWDGRAD_DATA: newFolder(), ...environment }),
    )
    for (const [i, [what, , says]] of cases.entries()) {
      const code = await started[i].exit
      const said = started[i].errors()
      expect([what, code, said]).toEqual([what, 1, expect.stringMatching(says)])
      expect(said.trim().split('\n').length, `${what}: one line for the operator, no stack`).toBe(1)
      expect(said).toMatch(/^crowdgrad: /)
    }
    other.close()
    await user.close()
  })
})
