/** Asks the simulator whether a role, or a caller of a resource, may do something. */
import { runSimulation } from '@cloud-copilot/iam-simulate'
import { ACCOUNT, REGION, policies } from './template.js'

/** What every request brings with it. */
const ALWAYS = {
  'aws:RequestedRegion': REGION,
  'aws:SecureTransport': 'true',
  'aws:ResourceAccount': ACCOUNT,
  'aws:PrincipalAccount': ACCOUNT
}

/** `Allowed`, `ImplicitlyDenied` or `ExplicitlyDenied`; throws where the question is wrong. */
async function ask(principal, identityPolicies, resourcePolicy, { action, resource, context }) {
  const answer = await runSimulation(
    {
      request: {
        principal,
        action,
        resource: { resource, accountId: ACCOUNT },
        contextVariables: { ...ALWAYS, ...context }
      },
      identityPolicies,
      resourcePolicy,
      serviceControlPolicies: [],
      resourceControlPolicies: []
    },
    {}
  )
  if (answer.resultType === 'error') {
    throw new Error(`${action} on ${resource}: ${JSON.stringify(answer.errors)}`)
  }
  return answer.overallResult
}

/** What a role (or a person with a managed policy) may do. */
export function mayDo(resources, role, question) {
  const session = `arn:aws:sts::${ACCOUNT}:assumed-role/${role}/test`
  return ask(session, policies(resources, role), undefined, question)
}

/** What a resource's own policy lets somebody do, whose other rights are `rights`. */
export function letsDo(policy, principal, question, rights = []) {
  return ask(principal, rights, policy, question)
}
