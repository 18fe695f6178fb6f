/**
 * Identities without a table: a volunteer's token is its id and a keyed hash of it, so the coordinator recognises
 * whoever it named before and stores nothing about them.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Journal } from '../journal/journal.ts'

/** Hexadecimal digits of the keyed hash in a token: 128 bits. */
const MAC_DIGITS = 32

export class Identities {
  private readonly key: string

  /** The key lives in the journal, so identities outlast a restart. */
  constructor(journal: Journal) {
    this.key = journal.get('identity-key') ?? randomBytes(32).toString('hex')
    journal.set('identity-key', this.key)
  }

  newcomer(): string {
    return randomBytes(6).toString('hex')
  }

  token(id: string): string {
    return `${id}.${createHmac('sha256', this.key).update(id).digest('hex').slice(0, MAC_DIGITS)}`
  }

  /** The id a token was made for; null where it is not one of ours. */
  identify(token: string): string | null {
    const [id = ''] = token.split('.')
    return sameSecret(token, this.token(id)) ? id : null
  }
}

/** Compares secrets in time that does not depend on where they differ. */
export function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}
