/** The operator's HTTP API (shared/api.ts): parse → runs → answer. Every route here wants the operator token. */
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ApiError, PictureEntry, RunState } from '../../shared/api.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import { Unfit } from '../datasets/unfit.ts'
import { picturesOf } from '../pictures/pictures.ts'
import { BINARY, MODEL_FILES } from '../run/model-files.ts'
import type { Run } from '../run/run.ts'
import type { Runs } from '../run/runs.ts'
import { CONSOLES_MAX, type Events } from './events.ts'
import { sameSecret } from './identities.ts'

export interface OperatorsOptions {
  readonly runs: Runs
  readonly events: Events
  readonly token: string
  readonly now: () => number
}

const STATUS: Record<ApiError['error']['code'], number> = {
  unauthorized: 401,
  'bad-spec': 400,
  'bad-request': 400,
  'not-found': 404,
  'wrong-state': 409,
  'rate-limited': 429,
  'storage-full': 507,
  'storage-failed': 503,
  internal: 500,
}

export function apiError(
  reply: FastifyReply,
  code: ApiError['error']['code'],
  message: string,
  problems?: ApiError['error']['problems'],
) {
  const body: ApiError = { error: { code, message, ...(problems === undefined ? {} : { problems }) } }
  return reply.code(STATUS[code]).send(body)
}

/** A run's id: short enough to read aloud, without the dot that ends it in a lease's id. */
const newRunId = () => `r${randomBytes(4).toString('hex')}`

const TARGETS: Record<string, RunState> = { pause: 'paused', resume: 'running', stop: 'finished' }

export function serveOperators(app: FastifyInstance, { runs, events, token, now }: OperatorsOptions): void {
  // After the rate limit, which counts wrong tokens too.
  app.addHook('preValidation', async (request, reply) => {
    const [scheme, given = ''] = (request.headers.authorization ?? '').split(' ')
    if (scheme.toLowerCase() === 'bearer' && given !== '' && sameSecret(given, token)) return
    reply.header('www-authenticate', 'Bearer')
    return apiError(
      reply,
      'unauthorized',
      'expected the header "Authorization: Bearer <operator token>"; the coordinator prints it at start',
    )
  })

  app.post('/runs', (request, reply) => {
    const parsed = parseRunSpec(request.body)
    if (!parsed.ok) {
      const fields = parsed.problems.map(({ field }) => field).join(', ')
      return apiError(reply, 'bad-spec', `this RunSpec cannot run; see: ${fields}`, parsed.problems)
    }
    const { spec } = parsed
    try {
      return reply.code(201).send(runs.create(newRunId(), spec, now()))
    } catch (error) {
      // What a schema cannot know: how many examples there are, and of which shape.
      if (!(error instanceof Unfit)) throw error
      const { field, message } = error
      return apiError(reply, 'bad-spec', `this RunSpec cannot run; see: ${field}`, [{ field, message }])
    }
  })

  app.get('/runs', () => ({ runs: runs.list().map((run) => run.detail(now())) }))

  app.get('/events', (_request, reply) => {
    if (!events.open(reply))
      return apiError(reply, 'rate-limited', `${CONSOLES_MAX} consoles are open already: close one`)
  })

  const found =
    (answer: (run: Run, request: FastifyRequest, reply: FastifyReply) => unknown) =>
    (request: FastifyRequest, reply: FastifyReply) => {
      const { id } = request.params as { id: string }
      const run = runs.get(id)
      return run === undefined
        ? apiError(reply, 'not-found', `there is no run ${id}; GET /api/runs lists those there are`)
        : answer(run, request, reply)
    }

  app.get(
    '/runs/:id',
    found((run) => run.detail(now())),
  )
  app.get(
    '/runs/:id/metrics',
    found((run) => runs.metrics(run)),
  )
  app.get(
    '/runs/:id/pictures',
    found((run) => ({
      pictures: picturesOf(runs.lastGood(run)).map(({ name, title, words }): PictureEntry => ({ name, title, words })),
    })),
  )
  app.get(
    '/runs/:id/pictures/:name.png',
    found((run, request, reply) => {
      const { name } = request.params as { name: string }
      const pictures = picturesOf(runs.lastGood(run))
      const picture = pictures.find((candidate) => candidate.name === name)
      if (picture !== undefined) return reply.type('image/png').send(Buffer.from(picture.draw().png()))
      const names = pictures.map((candidate) => candidate.name).join(', ')
      return apiError(reply, 'not-found', `run ${run.id} has no picture ${name}; it has ${names || 'none yet'}`)
    }),
  )
  for (const [verb, state] of Object.entries(TARGETS)) {
    app.post(
      `/runs/:id/${verb}`,
      found((run, _request, reply) => {
        const outcome = runs.move(run, state, null, now())
        return typeof outcome === 'string' ? apiError(reply, 'wrong-state', outcome) : outcome
      }),
    )
  }

  for (const { name, type, bytesOf, lacking } of MODEL_FILES) {
    app.get(
      `/runs/:id/${name}`,
      found((run, _request, reply) => {
        const body = bytesOf(runs.lastGood(run))
        if (body === null) return apiError(reply, 'not-found', `run ${run.id} has no ${lacking}`)
        if (type === BINARY) {
          const saved = name.startsWith('model.') ? name.replace('model', run.id) : `${run.id}.${name}`
          reply.header('content-disposition', `attachment; filename="${saved}"`)
        }
        return reply
          .type(type)
          .send(typeof body === 'string' ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength))
      }),
    )
  }
}
