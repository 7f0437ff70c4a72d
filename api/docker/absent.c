/* What this engine does not do: routes whose answer is a sentence (their 'help' in routes.def), and
 * the swarm, which clients take as "not there" when they hear 503. */
#include "docker.h"

bool not_yet(struct call *c)
{
    return vic_fail(&c->err, VIC_UNSUPPORTED, 0, "%s", c->route->help);
}

bool no_swarm(struct call *c)
{
    return vic_fail(&c->err, VIC_UNAVAILABLE, 0,
                    "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm "
                    "join\" to connect this node to swarm and try again.");
}

bool no_network(struct call *c)
{
    return vic_fail(&c->err, VIC_NOT_FOUND, 0, "network %.200s not found", c->param[0]);
}

bool no_volume(struct call *c)
{
    return vic_fail(&c->err, VIC_NOT_FOUND, 0, "get %.200s: no such volume", c->param[0]);
}

bool no_plugin(struct call *c)
{
    return vic_fail(&c->err, VIC_NOT_FOUND, 0, "plugin \"%.200s\" not found", c->param[0]);
}

bool empty_list(struct call *c)
{
    http_reply(c->req, 200, "application/json", SV("[]\n"));
    return true;
}

bool empty_volumes(struct call *c)
{
    http_reply(c->req, 200, "application/json", SV("{\"Volumes\":[],\"Warnings\":[]}\n"));
    return true;
}
