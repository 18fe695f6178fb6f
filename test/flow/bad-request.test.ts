/**
 * Bad requests to the operator API of a real coordinator. Each time: the right status and code, a message that says
 * what was expected and what came, and no volunteer notices (support/bystander.ts).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ApiError } from '../../shared/api.ts'
import { Bystander } from '../support/bystander.ts'
import { SMALL } from '../support/coordinator.ts'

let bystander: Bystander
beforeAll(async () => {
  bystander = await Bystander.start()
})
afterAll(() => bystander?.close())

describe('the operator API', () => {
  const expectError = async (response: Response, status: number, code: string, ...says: (string | RegExp)[]) => {
    const { error } = (await response.json()) as ApiError
    expect([response.status, error.code]).toEqual([status, code])
    for (const words of says) expect(error.message).toMatch(words)
    return error
  }
  const post = (path: string, body: string, headers: Record<string, string> = {}) =>
    fetch(bystander.coordinator.url + path, {
      method: 'POST',
      body,
      headers: {
        authorization: `Bearer ${bystander.coordinator.token}`,
        'content-type': 'application/json',
        ...headers,
      },
    })

  for (const [what, authorization] of [
    ['no token', undefined],
    ['a wrong token', 'Bearer 0123456789'],
    ['another scheme', 'Basic YWRtaW46YWRtaW4='],
    ['the token without its scheme', 'token'],
  ] as const) {
    test(`a request with ${what} is refused with 401`, async () => {
      await bystander.harmless(async () => {
        for (const [method, path] of [
          ['GET', '/api/runs'],
          ['POST', '/api/runs'],
          ['GET', `/api/runs/${bystander.runs.plain}`],
          ['POST', `/api/runs/${bystander.runs.plain}/stop`],
          ['GET', `/api/runs/${bystander.runs.plain}/model.safetensors`],
          ['GET', '/api/events'],
        ]) {
          const given = authorization === 'token' ? bystander.coordinator.token : authorization
          const response = await fetch(bystander.coordinator.url + path, {
            method,
            headers: given ? { authorization: given } : {},
          })
          expect(response.headers.get('www-authenticate')).toBe('Bearer')
          await expectError(response, 401, 'unauthorized', 'Authorization: Bearer')
        }
      })
    })
  }

  test('JSON that is none is refused', async () => {
    await bystander.harmless(async () => {
      await expectError(await post('/api/runs', '{"name": '), 400, 'bad-request', /JSON/)
      await expectError(await post('/api/runs', ''), 400, 'bad-request', /empty/)
      await expectError(
        await post('/api/runs', 'name=x', { 'content-type': 'text/csv' }),
        400,
        'bad-request',
        /expected the header "content-type: application\/json"/,
      )
      await expectError(await post('/api/runs', '{"__proto__": {"admin": true}}'), 400, 'bad-request')
    })
  })

  test('a body of more than a megabyte is refused', async () => {
    await bystander.harmless(async () => {
      await expectError(
        await post('/api/runs', JSON.stringify({ name: 'x'.repeat(2_000_000) })),
        400,
        'bad-request',
        /large/,
      )
    })
  })

  const specs: [string, object | null, Record<string, RegExp>][] = [
    ['nothing', null, { '(the whole spec)': /expected an object, got null/ }],
    [
      'an unknown dataset',
      { dataset: { name: 'imagenet' } },
      { 'dataset.name': /expected one of mnist, fashion-mnist, idx, got "imagenet"/ },
    ],
    [
      'more training examples than there are',
      { dataset: { name: 'mnist', train: 70_000 } },
      { 'dataset.train': /expected 1 to 60000, the training examples there are, got 70000/ },
    ],
    [
      'more test examples than there are',
      { dataset: { name: 'mnist', test: 10_001 } },
      { 'dataset.test': /expected 1 to 10000, the test examples there are, got 10001/ },
    ],
    ['no stop rule', { stop: undefined }, { stop: /expected an object, got nothing/ }],
    [
      'an unknown strategy',
      { strategy: { name: 'gossip' } },
      { 'strategy.name': /expected one of downpour.*"gossip"/ },
    ],
    ['a rate below zero', { updateRule: { name: 'sgd', rate: -1 } }, { 'updateRule.rate': /more than 0, got -1/ }],
    [
      'several things wrong',
      { seed: 1.5, leaseSeconds: 0, colour: 'red' },
      { seed: /got 1.5/, leaseSeconds: /at least 0.05, got 0/, colour: /no such field/ },
    ],
  ]
  for (const [what, change, problems] of specs) {
    test(`a RunSpec with ${what} is refused, naming each field, and no run is made`, async () => {
      const before = bystander.coordinator.runs.list().length
      await bystander.harmless(async () => {
        const spec = change === null ? null : { ...SMALL, ...change }
        const error = await expectError(await post('/api/runs', JSON.stringify(spec)), 400, 'bad-spec')
        expect(error.problems?.map(({ field }) => field).sort()).toEqual(Object.keys(problems).sort())
        for (const { field, message } of error.problems ?? []) expect(message).toMatch(problems[field])
      })
      expect(bystander.coordinator.runs.list().length).toBe(before)
    })
  }

  test('a state that a run cannot reach from where it is is refused with 409', async () => {
    const { run } = await bystander.coordinator.createRun(SMALL)
    const move = (verb: string) => bystander.coordinator.api('POST', `/api/runs/${run}/${verb}`)
    await bystander.harmless(async () => {
      await expectError(await move('resume'), 409, 'wrong-state', /running cannot become running; it can become paused/)
      expect((await move('pause')).status).toBe(200)
      await expectError(await move('pause'), 409, 'wrong-state', /paused cannot become paused/)
      expect((await move('stop')).status).toBe(200)
      for (const verb of ['pause', 'resume', 'stop']) {
        await expectError(await move(verb), 409, 'wrong-state', /finished cannot become .* nothing else/)
      }
    })
  })

  test('a run or a path that does not exist is refused with 404', async () => {
    await bystander.harmless(async () => {
      for (const path of ['/api/runs/atlantis', '/api/runs/atlantis/metrics', '/api/runs/atlantis/model.json']) {
        await expectError(
          await bystander.coordinator.api('GET', path),
          404,
          'not-found',
          'there is no run atlantis; GET /api/runs',
        )
      }
      await expectError(
        await bystander.coordinator.api('POST', '/api/runs/atlantis/pause'),
        404,
        'not-found',
        'atlantis',
      )
      await expectError(await bystander.coordinator.api('GET', '/api/nothing'), 404, 'not-found', '/api/nothing')
      await expectError(await bystander.coordinator.api('GET', '/blobs/0000'), 404, 'not-found', '0000')
      await expectError(await bystander.coordinator.api('GET', '/../../etc/passwd'), 404, 'not-found')
      const outside = await bystander.coordinator.api('GET', '/assets/..%2f..%2fpackage.json')
      expect([400, 404]).toContain(outside.status)
      await expectError(
        await bystander.coordinator.api('GET', `/api/runs/${bystander.runs.plain}/explode`),
        404,
        'not-found',
      )
    })
  })
})
