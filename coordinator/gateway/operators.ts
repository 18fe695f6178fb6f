/** The operator's HTTP API (shared/api.ts): parse → runs → answer. Every route here wants the operator token. */
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ApiError, RunState } from '../../shared/api.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import { layersModel, safetensors } from '../journal/export.ts'
import { StorageError } from '../journal/journal.ts'
import type { Run } from '../run/run.ts'
import type { Runs } from '../run/runs.ts'
import type { Events } from './events.ts'
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

const codeOf = ({ fault }: StorageError) => (fault === 'full' ? 'storage-full' : 'storage-failed')

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
    try {
      return reply.code(201).send(runs.create(newRunId(), parsed.spec, now()))
    } catch (error) {
      if (error instanceof StorageError)
        return apiError(reply, codeOf(error), `the run was not created: ${error.message}`)
      // What a schema cannot know: how many examples there are. A plain error is an expected one, see DESIGN §8.
      if ((error as Error).constructor === Error && !(error as Error).message.startsWith('invariant:')) {
        const { message } = error as Error
        return apiError(reply, 'bad-spec', 'this RunSpec cannot run; see: dataset', [{ field: 'dataset', message }])
      }
      throw error
    }
  })

  app.get('/runs', () => ({ runs: runs.list().map((run) => run.detail(now())) }))

  app.get('/events', (_request, reply) => {
    if (!events.open(reply)) return apiError(reply, 'rate-limited', 'too many consoles are open')
  })

  const found =
    (answer: (run: Run, request: FastifyRequest, reply: FastifyReply) => unknown) =>
    (request: FastifyRequest, reply: FastifyReply) => {
      const { id } = request.params as { id: string }
      const run = runs.get(id)
      return run === undefined ? apiError(reply, 'not-found', `there is no run ${id}`) : answer(run, request, reply)
    }

  app.get(
    '/runs/:id',
    found((run) => run.detail(now())),
  )
  app.get(
    '/runs/:id/metrics',
    found((run) => runs.metrics(run)),
  )
  for (const [verb, state] of Object.entries(TARGETS)) {
    app.post(
      `/runs/:id/${verb}`,
      found((run, _request, reply) => {
        try {
          const moved = runs.move(run, state, null, now())
          return typeof moved === 'string' ? apiError(reply, 'wrong-state', moved) : moved
        } catch (error) {
          if (error instanceof StorageError) return apiError(reply, codeOf(error), error.message)
          throw error
        }
      }),
    )
  }

  const file = (reply: FastifyReply, run: Run, extension: string, type: string, body: Uint8Array | string) =>
    reply
      .header('content-disposition', `attachment; filename="${run.id}${extension}"`)
      .type(type)
      .send(typeof body === 'string' ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength))

  app.get(
    '/runs/:id/model.safetensors',
    found((run, _request, reply) =>
      file(
        reply,
        run,
        '.safetensors',
        'application/octet-stream',
        safetensors(run.model.layout, run.parameters.snapshot()),
      ),
    ),
  )
  app.get(
    '/runs/:id/model.json',
    found((run, _request, reply) =>
      reply
        .type('application/json')
        .send(layersModel(run.model.topology, run.model.layout, run.parameters.snapshot()).json),
    ),
  )
  app.get(
    '/runs/:id/model.weights.bin',
    found((run, _request, reply) =>
      file(
        reply,
        run,
        '.weights.bin',
        'application/octet-stream',
        layersModel(run.model.topology, run.model.layout, run.parameters.snapshot()).weights,
      ),
    ),
  )
}
