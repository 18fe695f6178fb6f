/** The operator token: how it is kept, and what a guesser of it meets. */
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import type { ApiError } from '../../shared/api.ts'
import { newFolder, removeFolders, SMALL, startCoordinator, type TestCoordinator } from '../support/coordinator.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

afterAll(removeFolders)

/** What a test leaves running when it fails. */
const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function coordinate(dataFolder = newFolder()): Promise<TestCoordinator> {
  const coordinator = await startCoordinator({ dataFolder })
  ends.push(() => coordinator.stop())
  return coordinator
}

const statusWith = async ({ url }: TestCoordinator, token: string) =>
  (await fetch(`${url}/api/runs`, { headers: { authorization: `Bearer ${token}` } })).status

describe('the token in the data folder', () => {
  test.each([
    ['empty', ''],
    ['a line end', '\n'],
    ['the beginning of one', '0f3c9a7b21\n'],
    ['one character too short', `${'a'.repeat(15)}\n`],
  ])('is made anew where what is there is %s, and the old is not accepted [O1]', async (_what, half) => {
    const folder = newFolder()
    const path = join(folder, 'operator-token')
    writeFileSync(path, half)
    chmodSync(path, 0o644)
    const coordinator = await coordinate(folder)
    const { token } = coordinator
    expect(token).toMatch(/^[0-9a-f]{48}$/)
    expect(readFileSync(path, 'utf8')).toBe(`${token}\n`)
    // Whoever could read the old file cannot read this one.
    expect((statSync(path).mode & 0o777).toString(8)).toBe('600')
    expect(readdirSync(folder).filter((name) => name.startsWith('operator-token'))).toEqual(['operator-token'])
    expect(await statusWith(coordinator, half.trim())).toBe(401)
    expect(await statusWith(coordinator, token)).toBe(200)
  })

  test('is whole after a crash while it was written, and stays the same from start to start [O1]', async () => {
    const folder = newFolder()
    // A crash before the rename leaves this.
    writeFileSync(join(folder, 'operator-token.new'), '0f3c')
    const first = await coordinate(folder)
    expect(first.token).toMatch(/^[0-9a-f]{48}$/)
    await first.stop()
    const second = await coordinate(folder)
    expect(second.token).toBe(first.token)
    expect(await statusWith(second, first.token)).toBe(200)
  })

  test("may be the operator's own [O1]", async () => {
    const folder = newFolder()
    const own = 'sixteen-letters!'
    writeFileSync(join(folder, 'operator-token'), own)
    const coordinator = await coordinate(folder)
    expect(coordinator.token).toBe(own)
    expect(await statusWith(coordinator, own)).toBe(200)
  })
})

interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

/** Somebody at an address of this machine of their own: every 127.x is one. */
function visitor(coordinator: TestCoordinator, localAddress: string) {
  const { port } = new URL(coordinator.url)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  ends.push(() => agent.destroy())
  return (token: string, path = '/api/runs', method = 'GET') =>
    new Promise<Answer>((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}` }
      const asked = request({ host: '127.0.0.1', port, localAddress, agent, path, method, headers }, (response) => {
        let body = ''
        response.on('data', (data) => {
          body += data
        })
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }))
      })
      asked.on('error', reject)
      asked.end()
    })
}

describe('a guesser of tokens', () => {
  test('is stopped after 600 a minute on all routes together, even from guessing right; nobody else is [O1] [G2]', async () => {
    const coordinator = await coordinate()
    const { run } = await coordinator.createRun(SMALL)
    const guesser = visitor(coordinator, '127.0.0.2')
    const operator = visitor(coordinator, '127.0.0.3')
    const { token } = coordinator
    const routes = [
      ['/api/runs', 'GET'],
      ['/api/runs', 'HEAD'],
      ['/api/events', 'GET'],
      [`/api/runs/${run}`, 'GET'],
      [`/api/runs/${run}/stop`, 'POST'],
      [`/api/runs/${run}/model.json`, 'GET'],
    ]
    for (let i = 0; i < 600; i++) {
      const [path, method] = routes[i % routes.length]
      const { status } = await guesser(i.toString(16).padStart(48, '0'), path, method)
      if (status !== 401) expect.fail(`guess ${i} on ${method} ${path} was answered with ${status}`)
    }
    for (const guess of ['wrong', token]) {
      for (const [path, method] of routes) {
        const { status, headers, body } = await guesser(guess, path, method)
        expect([path, method, status]).toEqual([path, method, 429])
        expect(Number(headers['retry-after'])).toBeGreaterThan(0)
        expect(Number(headers['retry-after'])).toBeLessThanOrEqual(60)
        if (method !== 'HEAD') expect((JSON.parse(body) as ApiError).error.code).toBe('rate-limited')
      }
    }
    expect(coordinator.runs.get(run)!.state).toBe('running')

    const { status, headers } = await operator(token)
    expect([status, headers['x-ratelimit-remaining']]).toEqual([200, '599'])
    // Only the operator's routes are closed to that address.
    expect((await guesser('wrong', '/healthz')).status).toBe(200)
    const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
    ends.push(() => volunteer.close())
    await volunteer.work(1)
  })
})
