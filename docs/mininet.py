"""uswitch in Mininet: mn --custom mininet.py --switch uswitch --link uswitch --controller none

USwitch works with every class of links: the switch's ends of veth pairs become its ports. With USwitchLink there are
no veth pairs: the device of a host is a device of the switch, and a Unix socket connects two switches.
"""
import subprocess

from mininet.link import Intf, Link, TCLink
from mininet.node import Switch


class USwitch(Switch):
    "A switch without a gateway. `opts` are further options of `uswitch start`."

    def __init__(self, name, opts='', **params):
        Switch.__init__(self, name, opts=opts, **params)
        # Mininet creates links before it starts switches.
        self.uswitch('start --detach --ports 0 --no-gateway', *opts.split())

    def uswitch(self, command, *arguments):
        words = ['uswitch', *command.split(), *arguments, '--name', self.name]
        return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout

    def start(self, controllers):
        for name, intf in self.nameToIntf.items():
            if name != 'lo' and not isinstance(intf, Port):
                self.uswitch('port add --device', name)

    def stop(self, deleteIntfs=True):
        Switch.stop(self, deleteIntfs)
        self.uswitch('stop')

    def dpctl(self, *args):
        return self.uswitch('fdb show', *args)


class Port(Intf):
    "The switch's end of a USwitchLink. It has no device in the namespace of the switch."

    def ifconfig(self, *args):
        if args in (('up',), ('down',)):
            self.node.uswitch('port set --' + args[0], self.name)
        return ''

    def delete(self):
        self.node.uswitch('port del', self.name)
        self.node.delIntf(self)


class USwitchLink(Link):
    "A link between a host and a switch, or between two switches."

    def __init__(self, node1, node2, **params):
        for n, node in enumerate((node1, node2), 1):
            if isinstance(node, USwitch):
                params['cls%d' % n] = Port
        Link.__init__(self, node1, node2, **params)

    @classmethod
    def makeIntfPair(cls, intf1, intf2, addr1=None, addr2=None, node1=None, node2=None, **params):
        ends = ((node1, intf1, addr1), (node2, intf2, addr2))
        switches = [end for end in ends if isinstance(end[0], USwitch)]
        if len(switches) == 2:
            path = '/run/mininet-%s' % intf1
            node1.uswitch('port add --listen', intf1, '--socket', path)
            node2.uswitch('port add', intf2, '--socket', path)
        elif switches:
            (switch, port, _), = switches
            (host, device, mac), = (end for end in ends if end[0] is not switch)
            command = 'port add --unmanaged --netns %d --ifname %s --mac %s' % (host.pid, device, mac)
            switch.uswitch(command, port)
        else:
            Link.makeIntfPair(intf1, intf2, addr1, addr2, node1, node2, **params)


switches = {'uswitch': USwitch}
# mn adds to its switches, and replaces its links.
LINKS = {'default': Link, 'tc': TCLink, 'uswitch': USwitchLink}
