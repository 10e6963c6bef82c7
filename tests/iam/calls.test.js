/**
 * The calls of the program against the rights of the template: none missing, none
 * unused. By the source; by what the simulator's daemons asked of the cloud, against
 * the service's role alone (`cargo test -p sluicegate-sim` writes it into
 * target/requests-sim.jsonl); and by what the daemon and the commands sent in the
 * daemon's tests (`cargo test --test daemon`, target/requests).
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { CALLERS, NOBODY, RIGHTS, operations } from './calls.js'
import { questions, requests } from './requests.js'
import { mayDo } from './simulate.js'
import { policies, resolved } from './template.js'

const TARGET = fileURLToPath(new URL('../../target', import.meta.url))
const OF_DAEMONS = join(TARGET, 'requests-sim.jsonl')
const OF_TESTS = join(TARGET, 'requests')

const template = (deployment) =>
  resolved({
    Deployment: deployment,
    Vpc: 'vpc-1',
    Subnets: 'subnet-1',
    Image: 'sluicegate:0.1.0',
    Replicas: 1,
    Warehouse: 'redshift-serverless'
  }).resources
const resources = template('test')

const granted = (from, caller) =>
  policies(from, caller)
    .flatMap(({ policy }) => policy.Statement)
    .filter(({ Effect }) => Effect === 'Allow')

test('every call in the source is known here, and nothing else', () => {
  const callers = [...NOBODY, ...Object.values(CALLERS).flat()]
  assert.deepEqual(operations(), [...new Set(callers)].sort(), 'the callers in calls.js')
  assert.deepEqual(operations(), Object.keys(RIGHTS).sort(), 'the rights in calls.js')
})

for (const [caller, calls] of Object.entries(CALLERS)) {
  test(`${caller} has the rights for its calls, and no others`, () => {
    const actions = granted(resources, caller).flatMap(({ Action }) => Action)
    const needed = calls.flatMap((call) => RIGHTS[call])
    assert.deepEqual([...new Set(actions)].sort(), [...new Set(needed)].sort())
  })
}

/** Those that none of these callers may do, each once. */
async function refused(from, callers, asked) {
  const different = new Map(asked.map((question) => [JSON.stringify(question), question]))
  const answers = await Promise.all(
    [...different.values()].map(async (question) => {
      const results = await Promise.all(callers.map((caller) => mayDo(from, caller, question)))
      return results.includes('Allowed') ? [] : [question]
    })
  )
  return answers.flat()
}

/** Whether a resource is one of a statement's, where * stands for anything. */
function covers(pattern, resource) {
  const literal = pattern.split('*').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${literal.join('.*')}$`).test(resource)
}

test('the service’s role lets its daemons do all that they ask for', async () => {
  const asked = requests(OF_DAEMONS).flatMap((request) => questions(request, 'sim'))
  assert.ok(asked.length > 0, 'no daemon has asked for anything')
  assert.deepEqual(await refused(template('sim'), ['TaskRole'], asked), [])
})

test('the service’s role grants nothing on anything that no daemon uses', () => {
  const used = requests(OF_DAEMONS).flatMap((request) => (request.used ? questions(request, 'sim') : []))
  const unused = granted(template('sim'), 'TaskRole').flatMap(({ Sid, Action, Resource }) =>
    [Resource]
      .flat()
      .flatMap((resource) => [Action].flat().map((action) => ({ Sid, action, resource })))
      .filter(({ action, resource }) => !used.some((one) => one.action === action && covers(resource, one.resource)))
  )
  assert.deepEqual(unused, [])
})

/** What the tests themselves do, to set up (`tables create`), to disturb and to look. */
const TESTERS = {
  dynamodb: ['CreateTable', 'UpdateTable', 'UpdateTimeToLive', 'DeleteItem', 'DeleteTable'],
  sqs: ['CreateQueue', 'DeleteQueue'],
  sns: ['CreateTopic', 'DeleteTopic', 'Subscribe'],
  events: ['PutRule', 'PutTargets'],
  'redshift-data': ['ExecuteStatement']
}

function isTesters({ service, action, body }) {
  if (TESTERS[service]?.includes(action)) return true
  // A configuration with a mistake in its topic.
  if (service === 'sns' && body.includes('%3Anowhere')) return true
  // Clusters that tests make up in the name of others never end by themselves.
  return action === 'RunJobFlow' && JSON.parse(body).AutoTerminationPolicy === undefined
}

test('every request of the daemon’s tests is allowed', { skip: !existsSync(OF_TESTS) && 'no requests yet' }, async () => {
  const files = readdirSync(OF_TESTS).filter((name) => name.endsWith('.jsonl'))
  const sent = files.flatMap((file) => requests(join(OF_TESTS, file))).filter((request) => !isTesters(request))
  const asked = (some) => some.flatMap((request) => questions(request, 'test'))
  assert.ok(sent.length > 0, 'no test has sent anything')
  // The tests of commands are an operator's; what is tried is the service's alone.
  assert.deepEqual(await refused(resources, ['TaskRole', 'OperatorPolicy', 'GcPolicy'], asked(sent)), [])
  assert.deepEqual(await refused(resources, ['TaskRole'], asked(sent.filter(({ isTrial }) => isTrial))), [])
})
